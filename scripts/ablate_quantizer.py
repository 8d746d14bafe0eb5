#!/usr/bin/env python3
"""Perplexity of a model over its float one's, with each stage of the quantiser off in turn, tuned and
untuned, over INT4 shares, bits of K and V, seeds of the rescaling, and on the source's grid: one table
row a setting, in the order in which they are done.

  scripts/ablate_quantizer.py MODEL.gguf TEXT --jobs 2 -- --calibration-tokens 8192

What stands behind -- goes to every comet quantize. A job takes 4.2 GB for SmolLM2 while it tunes (and
its disk 140 MB while it is evaluated): a setting that was not tuned as asked, for want of memory, has
no row but an error."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

COLUMNS = ["A8/KV16", "A8/KV8", "A8/KV8/4", "A8/KV4/8", "A8/KV4", "Amixed/KV4", "Afloat/KV32"]
NO_CUDA = {"A8/KV16", "A8/KV4/8", "Afloat/KV32"}
STAGES = [
    "--no-rotation", "--no-down-hadamard", "--float-calibration", "--no-error-feedback",
    "--refinement-rounds 0", "--no-key-smoothing"]


def settings(args):
    """Name, windows (0: all), columns and options of each row."""
    few = args.windows
    bars = ["A8/KV8" if args.device == "cuda" else "A8/KV16", "A8/KV4", "Amixed/KV4"]
    rescale = ["--rescale-seed", str(args.rescale_seed)]
    untuned = [*rescale, "--tuning-steps", "0"]
    yield "defaults, whole text", 0, bars, rescale
    yield "defaults", few, COLUMNS, rescale
    yield "next seed", few, bars, ["--rescale-seed", str(args.rescale_seed + 1)]
    yield "unscaled", few, bars, []
    for stage in [*STAGES, "--tuning-code-rate 0"]:
        yield stage, few, bars, rescale + stage.split()
    for share in ("0", "0.5", "1"):
        yield f"--int4-share {share}", few, bars, rescale + ["--int4-share", share]
    yield "untuned", few, bars, untuned
    for stage in STAGES:
        yield f"untuned {stage}", few, bars, untuned + stage.split()


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()[-300:]}")
    return done.stdout


def perplexities(args, model, windows, columns, device):
    command = [args.comet, "eval", "perplexity", "--model", model, "--text", args.text, "--json",
               "--windows", str(windows), "--device", device, "--threads", str(args.threads)]
    for column in columns:
        command += ["--setting", column]
    return dict(zip(columns, (row["perplexity"] for row in json.loads(run(command))), strict=True))


def check_tuned(folder, options):
    """Raises unless steps and codes were tuned as the options say."""
    report = json.loads((folder / "accuracy.json").read_text())
    steps = "--tuning-steps 0" not in " ".join(options)
    codes = steps and "--tuning-code-rate 0" not in " ".join(options)
    if (report["tuning_steps"] > 0) != steps or report["tuning_codes"] != codes:
        raise RuntimeError(f"{report['tuning_steps']} steps, codes {report['tuning_codes']}: "
                           "not tuned as asked, too little memory?")


def measure(args, work, name, windows, columns, options):
    folder = pathlib.Path(tempfile.mkdtemp(dir=work)) / "model"
    options = options + args.further
    run([args.comet, "quantize", args.model, "--output", folder, "--threads", str(args.threads),
         *options])
    check_tuned(folder, options)
    served = [c for c in columns if args.device == "cpu" or c not in NO_CUDA]
    values = perplexities(args, folder, windows, served, args.device)
    (folder / "model.safetensors").unlink()
    return values


def cell(value, reference):
    if value is None:  # NaN or infinite logits.
        return "broken"
    return f"{value:.2f}, {100 * (value / reference - 1):+.1f} %"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--windows", type=int, default=64, help="of the text, for all rows but one")
    parser.add_argument("--jobs", type=int, default=1, help="settings worked on at once")
    parser.add_argument("--threads", type=int, help="of a job; else the processors, dealt out")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="that evaluates")
    parser.add_argument("--only", default="", help="rows whose name this expression is found in")
    parser.add_argument("--rescale-seed", type=int, default=1)
    parser.add_argument("--comet", default="build/release/bin/comet")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:at])
    args.further = sys.argv[at + 1:]
    if args.jobs < 1:
        parser.error("--jobs is below 1")
    args.threads = args.threads or max(1, len(os.sched_getaffinity(0)) // args.jobs)

    rows = [row for row in settings(args) if re.search(args.only, row[0])]
    if not rows:
        parser.error(f"no row's name has {args.only!r} in it")
    references = {}
    for windows in {row[1] for row in rows}:
        references[windows] = perplexities(args, args.model, windows, ["Afloat/KV32"], "cpu")
        print(f"float, {windows or 'all'} windows: {references[windows]['Afloat/KV32']:.2f}")
    print("| setting | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1), flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as work, \
            concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(measure, args, work, *row): row for row in rows}
        for future in concurrent.futures.as_completed(futures):
            name, windows, _, _ = futures[future]
            try:
                values = future.result()
            except (RuntimeError, ValueError, OSError) as error:
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                failed = True
                continue
            cells = [cell(values[c], references[windows]["Afloat/KV32"]) if c in values else ""
                     for c in COLUMNS]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
