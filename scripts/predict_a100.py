#!/usr/bin/env python3
"""PREDICTS what the Ampere product takes on an A100. Nothing this prints was measured on one.

  scripts/predict_a100.py [--plan build/release/bin/comet_sm80_plan] [--share 0.75] [--m 2,4,8,16,64,256]
      us per shape of configs/bench/paper_shapes.json, what limits it, and the ratio to fp16
  scripts/predict_a100.py --count OBJECT [--arch sm_80]
      instructions a stage of each config, from cuobjdump's disassembly of OBJECT (a compiled
      instances/sm80_gemm_packed.cu); --write puts them into the data file the prediction reads
  scripts/predict_a100.py --check FILE ...
      the same model on the rates of the H100, beside what comet_sm80_bench wrote to the files: where
      it timed the plan that is chosen (the variant "configs" times all tiles)

  scripts/predict_a100.py --ablation FILE
      what the kernel would take without one of its parts: a block's clocks are scaled until the model on
      the H100's rates gives the time that comet_sm80_bench measured of the variant (FILE)

The clocks of a block come from the stand-in's times on an H100 (sm80_gemm_choice.cc): an mma there takes
its scheduler as long as an A100's tensor cores, once the instructions beside it are counted. Two other
assumptions are printed below the table: that the busiest unit alone bounds a block, by the disassembly and
published rates; and that what an mma takes longer on an A100 adds to all else.
"""

import argparse
import json
import math
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "kernels/cuda/bench/sm80/instruction_counts.json"
SHAPES = ROOT / "configs/bench/paper_shapes.json"

A100 = {"num_sms": 108, "ghz": 1.41, "bytes_per_us": 1.8e6}
LAUNCH_US = 2.5  # Of a graph node.
# fp16 by cuBLAS on an A100: 312 TFLOPS peak. Published products of some 8192 reach 80 % of it,
# those of a few hundred rows less; its weights stream at the same achieved bandwidth.
FP16_OPS_PER_US = 312e6 * 0.8
# What cuBLASLt keeps of its best rate where M is 256, on an H100: 6144x4096, 4096x14336, 8192x8192,
# 28672x4096, 57344x8192 and 8192x28672 take 0.71 to 0.88 of 765 TFLOPS behind a launch.
FP16_SHARE_AT_256 = 0.82
H100_MMA_CLOCKS = 6.2  # Of a quarter of a multiprocessor; an A100's are the plan's default.
# Clocks an instruction keeps its unit busy, a quarter of a multiprocessor (shared memory: all of it).
CLOCKS = {"tensor": 8, "integer": 2, "convert": 8, "shared": 4, "issue": 1}


def unit_of(op):
    if op.startswith("IMMA"):
        return "tensor"
    if op.startswith(("LDS", "STS", "LDGSTS")):
        return "shared"
    if op.startswith("I2F"):
        return "convert"
    if op.startswith(("IMAD", "IADD", "LOP", "SHF", "PRMT", "ISETP", "SEL", "LEA", "IMNMX", "MOV")):
        return "integer"
    return None


def count(path, arch):
    """Per config, the instructions of the two multiplying loops: 64 outputs x the warp's tokens."""
    text = subprocess.run(["cuobjdump", "-sass", "-arch", arch, path], check=True,
                          capture_output=True, text=True).stdout
    result = {}
    for body in text.split("Function : ")[1:]:
        name = body.split("\n", 1)[0]
        match = re.search(r"GemmTraitsILi(\d+)ELb([01])ELNS0_12Int4MultiplyE([01])", name)
        if not match:
            continue
        ops = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9.]*)", body, re.M)
        spans, begin = [], None
        for i, op in enumerate(ops):  # Runs of multiplies with gaps of at most 60 instructions.
            if op.startswith("IMMA"):
                if begin is None or i - last > 60:
                    if begin is not None:
                        spans.append((begin, last))
                    begin = i
                last = i
        if begin is not None:
            spans.append((begin, last))
        loops = []
        for first, last in spans:
            units = {"issue": last - first + 1}
            kinds = {}
            for op in ops[first:last + 1]:
                unit = unit_of(op)
                if unit:
                    units[unit] = units.get(unit, 0) + 1
                if op.startswith("IMMA"):
                    kinds[op] = kinds.get(op, 0) + 1
            loops.append({"multiplies": kinds, "units": units})
        local = sum(op.startswith(("LDL", "STL")) for op in ops)
        result[f"{match[1]}{'p' if match[2] == '1' else 'b'}"] = {
            "instructions": len(ops), "local_memory": local, "loops": loops}
    return result


def unit_clocks(counts, row):
    """Clocks of an SM's busiest unit for an INT4 block of the row's tile, and its name."""
    units = {}
    config = row["config"]
    for loop in counts[f"{config}p"]["loops"]:  # A stage is one or more runs of multiplies.
        if any("16864" in kind for kind in loop["multiplies"]):
            for unit, number in loop["units"].items():
                units[unit] = units.get(unit, 0) + number
    best = ("", 0.0)
    for unit, number in units.items():
        share = 1 if unit == "shared" else 4
        clocks = number * CLOCKS[unit] * row["group_warps"] / share
        if clocks > best[1]:
            best = (unit, clocks)
    return best


def shapes():
    text = re.sub(r"//.*", "", SHAPES.read_text())
    return [(s["num_outputs"], s["num_inputs"]) for s in json.loads(text)["shapes"]]


def plans(binary, sizes, share, m, sms, bytes_per_clock, mma_clocks=CLOCKS["tensor"], factor=1.0,
          adds_mma_clocks=0):
    arguments = [binary, "--m", m, "--share", str(share), "--sms", str(sms), "--bytes-per-clock",
                 f"{bytes_per_clock:.3f}", "--mma-clocks", str(mma_clocks), "--block-factor",
                 str(factor), "--adds-mma-clocks", str(adds_mma_clocks)] + [f"{n}x{k}" for n, k in sizes]
    out = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def fp16_us(n, k, m, share=1):
    return LAUNCH_US + max(2 * n * k / A100["bytes_per_us"],
                           2 * n * k * max(m, 64) / (FP16_OPS_PER_US * share))


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def summarise(title, ratios):
    print(f"\n{title}")
    for m, values in ratios.items():
        print(f"M {m}: predicted geomean over fp16 {geomean(values):.2f}, least {min(values):.2f}")
    together = [r for m in (16, 64, 256) for r in ratios.get(m, [])]
    if together:
        print(f"M 16/64/256: predicted geomean {geomean(together):.2f}, least {min(together):.2f}")


def predict(options):
    counts = json.loads(DATA.read_text())["counts"]
    bytes_per_clock = A100["bytes_per_us"] / (A100["ghz"] * 1e3 * A100["num_sms"])

    def rows_of(**assumption):
        return plans(options.plan, shapes(), options.share, options.m, A100["num_sms"], bytes_per_clock,
                     **assumption)

    def us(clocks):
        return LAUNCH_US + clocks / (A100["ghz"] * 1e3)

    def ratios_of(rows, clocks="chosen", fp16=fp16_us):
        ratios = {}
        for row in rows:
            ratios.setdefault(row["m"], []).append(fp16(row["n"], row["k"], row["m"]) / us(row[clocks]))
        return ratios

    rows = rows_of()
    print(f"PREDICTED, not measured: A100 SXM, {A100['num_sms']} SMs at {A100['ghz']} GHz, INT4 share"
          f" {options.share}\n")
    print("| N x K | M | tile | us, predicted | limited by | naive / chosen | over fp16, predicted |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        weight_us = row["n"] * row["k"] * 0.5078 / A100["bytes_per_us"]
        unit, _ = unit_clocks(counts, row)
        limit = "HBM" if weight_us > 0.75 * (us(row["chosen"]) - LAUNCH_US) else f"latency, then {unit}"
        print(f"| {row['n']}x{row['k']} | {row['m']} | {row['tile_outputs']}x{row['tile_tokens']} |"
              f" {us(row['chosen']):.1f} | {limit} | {row['naive'] / row['chosen']:.2f} |"
              f" {fp16_us(row['n'], row['k'], row['m']) / us(row['chosen']):.2f} |")
    summarise("Blocks as on the H100, fp16 at 80 % of peak:", ratios_of(rows))
    summarise("Blocks as on the H100, fp16 slower at M 256 as on the H100:",
              ratios_of(rows, fp16=lambda n, k, m: fp16_us(n, k, m, FP16_SHARE_AT_256 if m == 256 else 1)))
    summarise("Blocks longer by what an mma takes longer, fp16 at 80 % of peak:",
              ratios_of(rows_of(adds_mma_clocks=1)))
    # By plan: the tool scales the blocks of all configs alike.
    by_units = []
    for config in sorted({row["config"] for row in rows}):
        row = next(row for row in rows if row["config"] == config)
        factor = unit_clocks(counts, row)[1] / row["int4_block"]
        by_units += [r for r in rows_of(factor=factor) if r["config"] == config]
    by_units.sort(key=lambda row: row["m"])
    summarise("Blocks as long as their busiest unit, fp16 at 80 % of peak:", ratios_of(by_units, "slower"))


def h100_lines(paths):
    return [json.loads(line) for path in paths for line in open(path) if line.startswith("{")]


def h100_bytes_per_clock(device, options):
    return device["copy_bytes_per_s"] * 1e-9 / (options.ghz * device["num_sms"])


def block_factor(options, device, size, m, ratio):
    """How many times as long a block takes where the whole takes `ratio` times, on the H100."""
    launch = LAUNCH_US * options.ghz * 1e3
    low, high = 0.5, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        plan = plans(options.plan, [size], options.share, str(m), device["num_sms"],
                     h100_bytes_per_clock(device, options), H100_MMA_CLOCKS, middle)[0]
        if (launch + plan["slower"]) / (launch + plan["chosen"]) > ratio:
            high = middle
        else:
            low = middle
    return low


def ablation(options):
    lines = h100_lines(options.ablation)
    bytes_per_clock = A100["bytes_per_us"] / (A100["ghz"] * 1e3 * A100["num_sms"])
    launch = LAUNCH_US * A100["ghz"] * 1e3
    times = {(r["variant"], r["m"], r["n"], r["k"]): r["us"] for r in lines if "variant" in r}
    ratios = {}
    for (variant, m, *size), us in times.items():
        if variant != "stand_in":
            ratios.setdefault((variant, m), []).append((size, us / times["stand_in", m, *size]))
    sizes = sorted({m for _, m in ratios})
    print("PREDICTED, not measured: A100, time without a part over the time with all, geomean of the"
          " paper's shapes\n(in brackets what the stand-in measured on the H100)\n")
    print("| without | " + " | ".join(f"M {m}" for m in sizes) + " |\n|" + "---|" * (len(sizes) + 1))
    for variant in sorted({variant for variant, _ in ratios}):
        cells = []
        for m in sizes:
            measured = ratios[variant, m]
            is_split = variant == "naive_split"
            factor = 1.0 if is_split else geomean(
                [block_factor(options, lines[0], size, m, ratio) for size, ratio in measured])
            rows = plans(options.plan, shapes(), options.share, str(m), A100["num_sms"],
                         bytes_per_clock, factor=factor)
            longer = "naive" if is_split else "slower"
            predicted = geomean([(launch + r[longer]) / (launch + r["chosen"]) for r in rows])
            cells.append(f"{predicted:.2f} ({geomean([r for _, r in measured]):.2f})")
        print(f"| {variant} | " + " | ".join(cells) + " |")


def check(options):
    lines = h100_lines(options.check)
    device = lines[0]
    ghz = options.ghz
    bytes_per_clock = h100_bytes_per_clock(device, options)
    measured = {}
    for row in lines:
        if row.get("variant") in ("stand_in", "configs"):
            share = row["int4_blocks"] / (row["int4_blocks"] + row["int8_blocks"])
            kind = (row["n"], row["k"], row["m"], share)
            # The split chosen by costs comes before others of as many whole tiles.
            measured.setdefault(kind, {}).setdefault((row["config"], row["whole_tiles"]), row["us"])
    within, missed, others = 0, [], 0
    for (n, k, m, share), times in measured.items():
        plan = plans(options.plan, [(n, k)], share + 1e-9, str(m), device["num_sms"], bytes_per_clock,
                     H100_MMA_CLOCKS)[0]
        if (plan["config"], plan["whole_tiles"]) not in times:
            others += 1
            continue
        measured_us = times[plan["config"], plan["whole_tiles"]]
        us = LAUNCH_US + plan["chosen"] / (ghz * 1e3)
        error = us / measured_us - 1
        if abs(error) <= 0.15:
            within += 1
        else:
            missed.append(f"{n}x{k} M {m}: model {us:.1f}, measured {measured_us:.1f} ({error:+.0%})")
    print(f"{within} of {within + len(missed)} rows within 15 % ({others} more were measured by another"
          " plan than is chosen now); the others:")
    print("\n".join(missed))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", default=str(ROOT / "build/release/bin/comet_sm80_plan"))
    parser.add_argument("--share", type=float, default=0.75)
    parser.add_argument("--m", default="2,4,8,16,64,256")
    parser.add_argument("--count", metavar="OBJECT")
    parser.add_argument("--arch", default="sm_80")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", metavar="FILE", nargs="+")
    parser.add_argument("--ablation", metavar="FILE", nargs="+")
    parser.add_argument("--ghz", type=float, default=1.8, help="the H100's clock, for --check and --ablation")
    options = parser.parse_args()
    if options.count:
        counts = count(options.count, options.arch)
        text = json.dumps({"made_by": "scripts/predict_a100.py --count OBJECT --write",
                           "arch": options.arch, "counts": counts}, indent=1)
        if options.write:
            DATA.write_text(text + "\n")
        else:
            print(text)
        return 0
    if not pathlib.Path(options.plan).exists():
        sys.exit(f"predict_a100: {options.plan} is missing: ninja -C build/release comet_sm80_plan")
    if options.check:
        check(options)
    elif options.ablation:
        ablation(options)
    else:
        predict(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
