#!/usr/bin/env python3
"""Many streaming clients for a while, some of which leave in mid-stream. Checks that nobody else is
disturbed, that memory does not grow, that every page comes back, and that /metrics agrees with what the
clients saw. Exit code 0 when all holds."""

import argparse
import asyncio
import json
import os
import random
import sys
import time

import httpx
from daemon import Daemon

# Between these two looks memory may grow by this much.
RSS_LOOK_SECONDS = 30
RSS_GROWTH_MAX = 0.01

MOON = "the moon and the stars "


class Tally:
    def __init__(self):
        self.num_whole = self.num_left = self.num_tokens_whole = self.prompt_tokens_whole = 0
        self.errors = []


def make_body(rng: random.Random, is_largest: bool) -> dict:
    subject = rng.choice(["the sea", "a dog", "bread", MOON * rng.randint(1, 20)])
    return {"model": "smollm2", "stream": True, "stream_options": {"include_usage": True},
            "max_tokens": 48 if is_largest else rng.randint(8, 48), "ignore_eos": is_largest,
            "temperature": rng.choice([0, 0.8]), "seed": rng.randrange(1 << 30),
            "messages": [{"role": "user", "content": "Say something about " + (
                MOON * 20 if is_largest else subject)}]}


async def run_request(client: httpx.AsyncClient, rng: random.Random, body: dict, leaves: bool,
                      tally: Tally):
    leave_after = rng.randint(1, 6)
    usage, is_done, num_events = None, False, 0
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            tally.errors.append(f"status {answer.status_code}: {await answer.aread()}")
            return
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                is_done = True
            elif line.startswith("data: "):
                event = json.loads(line[6:])
                if "error" in event:
                    tally.errors.append(line)
                    return
                usage = event["usage"] or usage
                num_events += 1
            if leaves and num_events >= leave_after:
                tally.num_left += 1
                return
    if not is_done or usage is None:
        tally.errors.append(f"stream ended early after {num_events} events")
        return
    tally.num_whole += 1
    tally.num_tokens_whole += usage["completion_tokens"]
    tally.prompt_tokens_whole += usage["prompt_tokens"]


async def run_client(url: str, client_idx: int, end: float, leave_share: float, tally: Tally):
    rng = random.Random(client_idx)
    # All begin with the largest request: the KV cache's memory is first touched when its pages are
    # first used, and growth after that is a leak.
    is_largest = True
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:
        while time.monotonic() < end:
            leaves = not is_largest and rng.random() < leave_share
            try:
                await run_request(client, rng, make_body(rng, is_largest), leaves, tally)
            except httpx.HTTPError as failure:
                tally.errors.append(f"{type(failure).__name__}: {failure}")
            is_largest = False


async def watch_rss(daemon: Daemon, start: float, end: float) -> tuple[int, int]:
    """RSS at RSS_LOOK_SECONDS and at the end."""
    await asyncio.sleep(max(0.0, start + RSS_LOOK_SECONDS - time.monotonic()))
    early = daemon.rss_bytes()
    await asyncio.sleep(max(0.0, end - time.monotonic()))
    return early, daemon.rss_bytes()


async def soak(daemon: Daemon, arguments) -> tuple[Tally, int, int]:
    tally = Tally()
    start = time.monotonic()
    end = start + arguments.seconds
    clients = [run_client(daemon.url, i, end, arguments.leave_share, tally)
               for i in range(arguments.clients)]
    (early, late), *_ = await asyncio.gather(watch_rss(daemon, start, end), *clients)
    return tally, early, late


def check(daemon: Daemon, tally: Tally, early: int, late: int) -> list[str]:
    daemon.wait_idle()
    metrics = daemon.metrics()
    faults = list(tally.errors)

    def expect(is_true: bool, what: str):
        if not is_true:
            faults.append(what)

    def finished(reason: str) -> int:
        return int(metrics[f'comet_requests_total{{reason="{reason}"}}'])

    num_ended = finished("stop") + finished("length")
    # A client that left may have had its last token already under way.
    expect(tally.num_whole <= num_ended <= tally.num_whole + tally.num_left,
           f"{num_ended} requests ended by themselves, clients saw {tally.num_whole} and left "
           f"{tally.num_left}")
    expect(num_ended + finished("cancelled") == tally.num_whole + tally.num_left,
           f"{finished('cancelled')} cancelled, expected the rest of {tally.num_left} that left")
    expect(finished("error") == finished("deadline") == 0, "requests failed")
    expect(metrics["comet_generation_tokens_total"] >= tally.num_tokens_whole,
           "fewer tokens generated than clients saw")
    expect(metrics["comet_prompt_tokens_total"] >= tally.prompt_tokens_whole,
           "fewer prompt tokens computed than clients saw")
    expect(metrics["comet_nan_logits_total"] == 0, "logits were not finite")
    expect(late <= early * (1 + RSS_GROWTH_MAX), f"RSS grew from {early} to {late} bytes")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", help="instead of COMET_BINARY")
    parser.add_argument("--model", help="instead of COMET_MODEL")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--leave-share", type=float, default=0.1)
    arguments = parser.parse_args()
    if arguments.binary:
        os.environ["COMET_BINARY"] = arguments.binary
    if arguments.model:
        os.environ["COMET_MODEL"] = arguments.model
    with Daemon() as daemon:
        tally, early, late = asyncio.run(soak(daemon, arguments))
        faults = check(daemon, tally, early, late)
        metrics = daemon.metrics()
    tokens = int(metrics["comet_generation_tokens_total"])
    print(f"{tally.num_whole} whole streams, {tally.num_left} left, {tokens} tokens, "
          f"{tokens / arguments.seconds:.1f} tokens/s, "
          f"{int(metrics['comet_preemptions_total'])} preemptions, RSS {early >> 20} MiB at "
          f"{RSS_LOOK_SECONDS} s, {late >> 20} MiB at the end")
    for fault in faults[:20]:
        print("fault:", fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
