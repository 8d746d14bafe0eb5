#!/usr/bin/env python3
"""Loads a running daemon with streams of fixed lengths, each client's next request behind its last, and
tells the tokens a second that reached the clients, from the first request to the last token of those
that began in time: what `comet bench throughput` tells of the engine alone. Reads only what it must of
a stream, over plain sockets and in several processes, so that the clients take little of the machine
they share with the daemon. Exit code 1 when a stream failed or was short."""

import argparse
import asyncio
import json
import multiprocessing
import random
import sys
import time

DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"\r\n0\r\n\r\n"


class Tally:
    def __init__(self):
        self.num_whole = self.num_tokens = 0
        self.last_token_time = 0.0
        self.first_token_seconds = []
        self.errors = []


def make_request(arguments, rng: random.Random, num_output_tokens: int) -> bytes:
    # Token ids, so that the length is exact whatever the tokenizer.
    prompt = [rng.randrange(arguments.vocab_size) for _ in range(arguments.input_tokens)]
    body = json.dumps({"prompt": prompt, "max_tokens": num_output_tokens, "ignore_eos": True,
                       "temperature": 0, "stream": True,
                       "stream_options": {"include_usage": True}}).encode()
    return (f"POST /v1/completions HTTP/1.1\r\nHost: {arguments.host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body


class Client(asyncio.Protocol):
    """One connection: request after request until the end, the last one whole."""

    def __init__(self, arguments, seed: int, end: float, tally: Tally):
        self.arguments, self.end, self.tally = arguments, end, tally
        self.rng = random.Random(seed)
        self.has_ended = False  # By this client.
        self.is_closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def send(self):
        self.tail = b""
        self.is_first = True
        self.start = time.monotonic()
        spread = round(self.arguments.output_spread * self.arguments.output_tokens)
        self.num_output_tokens = self.arguments.output_tokens + self.rng.randint(-spread, spread)
        self.transport.write(make_request(self.arguments, self.rng, self.num_output_tokens))

    def data_received(self, data: bytes):
        if self.is_first:
            self.is_first = False
            self.tally.first_token_seconds.append(time.monotonic() - self.start)
            if not data.startswith(b"HTTP/1.1 200"):
                return self.fail(data[:400].decode(errors="replace"))
        self.tail = (self.tail + data)[-2048:]
        if self.tail.endswith(LAST_CHUNK):
            self.finish()

    def finish(self):
        at = self.tail.rfind(b'"usage":{')
        if at < 0 or DONE not in self.tail:
            return self.fail(self.tail[-400:].decode(errors="replace"))
        usage = json.loads(self.tail[at + 8:self.tail.index(b"}", at) + 1])
        if usage["completion_tokens"] != self.num_output_tokens:
            return self.fail(f"{usage} where {self.num_output_tokens} tokens were asked for")
        self.tally.num_whole += 1
        self.tally.num_tokens += usage["completion_tokens"]
        self.tally.last_token_time = time.monotonic()
        if self.tally.last_token_time < self.end:
            self.send()
        else:
            self.has_ended = True
            self.transport.close()

    def fail(self, what: str):
        self.tally.errors.append(what)
        self.has_ended = True
        self.transport.close()

    def connection_lost(self, error):
        if not self.has_ended:
            self.tally.errors.append(f"closed in a stream: {error}")
        if not self.is_closed.done():
            self.is_closed.set_result(None)


async def run_clients(arguments, process_idx: int, num_clients: int, end: float) -> Tally:
    tally = Tally()
    loop = asyncio.get_running_loop()
    clients = []
    for i in range(num_clients):
        _, client = await loop.create_connection(
            lambda i=i: Client(arguments, process_idx * 100000 + i, end, tally),
            arguments.host, arguments.port)
        clients.append(client)
    await asyncio.gather(*(client.is_closed for client in clients))
    return tally


def run_process(arguments, process_idx: int, num_clients: int, end: float, tallies):
    tallies.put(asyncio.run(run_clients(arguments, process_idx, num_clients, end)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, default=512)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--input-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=256)
    parser.add_argument("--output-spread", type=float, default=0.0,
                        help="each output's length is up to this share longer or shorter")
    parser.add_argument("--vocab-size", type=int, default=32000)
    arguments = parser.parse_args()
    tallies = multiprocessing.Queue()
    start = time.monotonic()
    end = start + arguments.seconds
    processes = []
    for i in range(arguments.processes):
        num_clients = (arguments.clients + i) // arguments.processes
        processes.append(multiprocessing.Process(
            target=run_process, args=(arguments, i, num_clients, end, tallies)))
        processes[-1].start()
    total = Tally()
    for _ in processes:
        tally = tallies.get()
        total.num_whole += tally.num_whole
        total.num_tokens += tally.num_tokens
        total.last_token_time = max(total.last_token_time, tally.last_token_time)
        total.first_token_seconds += tally.first_token_seconds
        total.errors += tally.errors
    for error in total.errors[:10]:
        print("error:", error)
    if total.num_whole == 0:
        print("no stream was whole")
        return 1
    first = sorted(total.first_token_seconds)
    seconds = total.last_token_time - start
    print(f"{total.num_whole} whole streams of {arguments.input_tokens} in, {arguments.output_tokens} out, "
          f"{arguments.clients} at once: {total.num_tokens / seconds:.1f} tokens/s over "
          f"{seconds:.1f} s, first token after {first[len(first) // 2]:.3f} s at the median, "
          f"{first[len(first) * 99 // 100]:.3f} at p99, {len(total.errors)} errors")
    return 1 if total.errors else 0


if __name__ == "__main__":
    sys.exit(main())
