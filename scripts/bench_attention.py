#!/usr/bin/env python3
"""Times comet's attention beside PyTorch's FlashAttention and cuDNN on an fp16 cache, one GPU.

  scripts/bench_attention.py [--comet build/release/bin/comet] [--repeats 9] [-- comet options]

Runs `comet bench ops --op attention --json -` with the options after --, then scaled_dot_product_attention
of the same sizes: caches rotated past L2 in a captured graph, medians of replays. Keys and values of a
group are shared (enable_gqa). A chunk behind a history has no causal form there, so it is left out.
Needs PyTorch with CUDA.
"""

import argparse
import json
import statistics
import subprocess

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

ROTATED_BYTES = 200_000_000
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def time_us(run, num_launches, num_repeats):
    """Microseconds of one launch: `run(i)` issues the i-th."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for i in range(2):
            run(i)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(num_launches):
            run(i)
    times = []
    for _ in range(num_repeats + 1):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / num_launches)
    return statistics.median(times[1:])


def measure(size, backend, num_repeats):
    batch, context, queries = size["num_sequences"], size["context_length"], size["num_queries"]
    heads, kv_heads, head_dim = size["num_heads"], size["num_kv_heads"], size["head_dim"]
    cache_bytes = 2 * batch * kv_heads * context * head_dim * 2
    num_copies = max(2, -(-ROTATED_BYTES // cache_bytes))

    def random(num_heads, length):
        return torch.randn(batch, num_heads, length, head_dim, dtype=torch.float16, device="cuda")

    q = random(heads, queries)
    caches = [(random(kv_heads, context), random(kv_heads, context)) for _ in range(num_copies)]

    def run(i):
        k, v = caches[i % num_copies]
        torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=queries > 1, enable_gqa=heads != kv_heads)

    with sdpa_kernel(backend), torch.no_grad():
        return time_us(run, max(8, num_copies), num_repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comet", default="build/release/bin/comet")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("options", nargs="*", help="of comet bench ops, after --")
    args = parser.parse_args()

    command = [args.comet, "bench", "ops", "--op", "attention", "--json", "-", *args.options]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"{report['device']}, PyTorch {torch.__version__}, "
          f"cuDNN {torch.backends.cudnn.version()}, us (ratio to comet)")
    print(f"{'batch':>6} {'context':>8} {'queries':>8} {'comet':>9} {'GB/s':>6} {'copy':>6} "
          f"{'TFLOPS':>7} {'flash':>16} {'cudnn':>16}")
    for size in report["sizes"]:
        line = (f"{size['num_sequences']:>6} {size['context_length']:>8} {size['num_queries']:>8} "
                f"{size['us']:>9.2f} {size['gb_per_s']:>6.0f} {size['share_of_copy']:>6.3f} "
                f"{size['tflops']:>7.1f}")
        for name, backend in BACKENDS.items():
            cell = "-"
            has_form = size["num_queries"] in (1, size["context_length"]) and size["window"] == 0
            if has_form:
                try:
                    us = measure(size, backend, args.repeats)
                    cell = f"{us:.1f} ({us / size['us']:.2f})"
                except RuntimeError as error:  # No kernel of that library takes the size.
                    cell = str(error).split("\n")[0][:14]
                torch.cuda.empty_cache()
            line += f" {cell:>16}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
