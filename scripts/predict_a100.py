#!/usr/bin/env python3
"""PREDICTS what the Ampere product takes on an A100. Nothing this prints was measured on one.

  scripts/predict_a100.py [--plan build/release/bin/comet_sm80_plan] [--share 0.75]
                          [--m 2,4,8,16,64,256]
      us per shape of configs/bench/paper_shapes.json, what limits it, and the ratio to fp16
  scripts/predict_a100.py --count OBJECT [--arch sm_80]
      instructions of a stage of each config's two loops, from cuobjdump's disassembly of OBJECT
      (a compiled instances/sm80_gemm_packed.cu); --write puts them into the file that is read
  scripts/predict_a100.py --check FILE ...
      the same model on the rates of the H100, beside what comet_sm80_bench wrote to the files:
      where it timed the plan that is chosen (the variant "configs" times all tiles)
  scripts/predict_a100.py --even [FILE ...]
      how far the schedules are from even: makespan over bound, and the rows that are beyond 1.03 with
      what the evenest plan would take; of FILEs, what comet_sm80_bench measured of both on an H100
      (--variants stand_in,balanced)
  scripts/predict_a100.py --ablation FILE ...
      what the kernel would take without one of its parts: a block's clocks are scaled until the
      model on the H100's rates gives the time that comet_sm80_bench measured of the variant (FILE)

The clocks of a block come from the stand-in's times on an H100 (sm80_gemm_choice.cc): an mma there
takes its scheduler as long as an A100's tensor cores, once the instructions beside it are counted.
Other assumptions are printed below the table: that the busiest unit alone bounds a block, by the
disassembly and published rates; that what an mma takes longer on an A100 adds to all else; and that
fp16 falls off at M 256 as on the H100.
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
H100_GHZ = 1.85  # While it ran the products of few tokens that the model was fitted to.
H100_MMA_CLOCKS = 6.2  # Of a quarter of a multiprocessor.
# Clocks an instruction keeps its unit busy, of a quarter of a multiprocessor (shared memory: all).
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


def loops_of(body):
    """The innermost loops with an mma: their instructions but what a forward branch can skip."""
    lines = [(int(address, 16), text) for address, text in
             re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", body, re.M)]
    index = {address: i for i, (address, _) in enumerate(lines)}
    branches = {}
    for i, (_, text) in enumerate(lines):
        match = re.match(r"(@!?U?P\w+ )?BRA\S* .*?0x([0-9a-f]+)", text)
        if match and int(match[2], 16) in index:
            branches[i] = index[int(match[2], 16)], match[1]

    def has_mma(begin, end):
        return any("IMMA" in text for _, text in lines[begin:end])

    loops = [(begin, end) for end, (begin, _) in branches.items()
             if begin <= end and has_mma(begin, end)]
    for begin, end in loops:
        if any(begin <= b and e <= end and (b, e) != (begin, end) for b, e in loops):
            continue
        texts = []
        i = begin
        while i <= end:
            texts.append(re.sub(r"^@!?U?P\w+ ", "", lines[i][1]))
            target, is_conditional = branches.get(i, (i, None))
            is_skipped = is_conditional and i < target <= end and not has_mma(i + 1, target)
            i = target if is_skipped else i + 1
        yield texts


def count(path, arch):
    """Per config, the instructions of a warp's stage: a block of INT4, half a block of INT8."""
    text = subprocess.run(["cuobjdump", "-sass", "-arch", arch, path], check=True,
                          capture_output=True, text=True).stdout
    result = {}
    for body in text.split("Function : ")[1:]:
        name = body.split("\n", 1)[0]
        match = re.search(r"GemmTraitsILi(\d+)ELb1ELNS0_12Int4MultiplyE0", name)
        if not match:  # Codes in bytes, or a stand-in.
            continue
        counts = {"local_memory": len(re.findall(r"\b(?:LDL|STL)\b", body))}
        for texts in loops_of(body):
            ops = [text.split()[0] for text in texts]
            units = {"issue": len(ops)}
            for unit in filter(None, map(unit_of, ops)):
                units[unit] = units.get(unit, 0) + 1
            counts["int4" if any("16864" in op for op in ops) else "int8"] = units
        result[match[1]] = counts
    return result


def unit_clocks(counts, row, region):
    """Clocks of an SM's busiest unit for a block of the row's tile, and its name."""
    stages = 2 if region == "int8" else 1
    best = ("", 0.0)
    for unit, number in counts[str(row["config"])][region].items():
        share = 1 if unit == "shared" else 4
        clocks = stages * number * CLOCKS[unit] * row["group_warps"] / share
        if clocks > best[1]:
            best = (unit, clocks)
    return best


def shapes():
    text = re.sub(r"//.*", "", SHAPES.read_text())
    return [(s["num_outputs"], s["num_inputs"]) for s in json.loads(text)["shapes"]]


def plans(binary, sizes, share, m, sms, bytes_per_clock, added_mma_clocks=0.0, factors=(1, 1),
          latency_factor=1.0):
    arguments = [binary, "--m", m, "--share", str(share), "--sms", str(sms), "--bytes-per-clock",
                 f"{bytes_per_clock:.3f}", "--added-mma-clocks", str(added_mma_clocks),
                 "--latency-factor", str(latency_factor),
                 "--int4-factor", str(factors[0]), "--int8-factor", str(factors[1])]
    arguments += [f"{n}x{k}" for n, k in sizes]
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


def predicted_us(clocks):
    return LAUNCH_US + clocks / (A100["ghz"] * 1e3)


def ratios_of(rows, clocks="chosen", fp16_share_at_256=1.0):
    ratios = {}
    for row in rows:
        share = fp16_share_at_256 if row["m"] == 256 else 1
        fp16 = fp16_us(row["n"], row["k"], row["m"], share)
        ratios.setdefault(row["m"], []).append(fp16 / predicted_us(row[clocks]))
    return ratios


def predict(options):
    counts = json.loads(DATA.read_text())["counts"]
    bytes_per_clock = A100["bytes_per_us"] / (A100["ghz"] * 1e3 * A100["num_sms"])

    def rows_of(**assumption):
        return plans(options.plan, shapes(), options.share, options.m, A100["num_sms"],
                     bytes_per_clock, **assumption)

    rows = rows_of()
    print(f"PREDICTED, not measured: A100 SXM, {A100['num_sms']} SMs at {A100['ghz']} GHz, INT4"
          f" share {options.share}\n")
    print("| N x K | M | tile | us, predicted | limited by | naive / chosen"
          " | over fp16, predicted |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        us = predicted_us(row["chosen"])
        weight_us = row["n"] * row["k"] * 0.5078 / A100["bytes_per_us"]
        unit, _ = unit_clocks(counts, row, "int4")
        limit = "HBM" if weight_us > 0.75 * (us - LAUNCH_US) else f"latency, then {unit}"
        print(f"| {row['n']}x{row['k']} | {row['m']} | {row['tile_outputs']}x{row['tile_tokens']} |"
              f" {us:.1f} | {limit} | {row['naive'] / row['chosen']:.2f} |"
              f" {fp16_us(row['n'], row['k'], row['m']) / us:.2f} |")
    summarise("Blocks as on the H100, fp16 at 80 % of peak:", ratios_of(rows))
    summarise("Blocks as on the H100, fp16 slower at M 256 as on the H100:",
              ratios_of(rows, fp16_share_at_256=FP16_SHARE_AT_256))
    summarise("Blocks as on the H100, waits for memory of as many ns as there, fp16 at 80 %:",
              ratios_of(rows_of(latency_factor=A100["ghz"] / H100_GHZ)))
    summarise("Blocks longer by what an mma takes longer, fp16 at 80 % of peak:",
              ratios_of(rows_of(added_mma_clocks=CLOCKS["tensor"] - H100_MMA_CLOCKS)))
    # By config: the tool scales the blocks of all alike.
    by_units = []
    for config in sorted({row["config"] for row in rows}):
        row = next(row for row in rows if row["config"] == config)
        factors = [unit_clocks(counts, row, region)[1] / row[f"{region}_block"]
                   for region in ("int4", "int8")]
        by_units += [r for r in rows_of(factors=factors) if r["config"] == config]
    by_units.sort(key=lambda row: row["m"])
    summarise("Blocks as long as their busiest unit, fp16 at 80 % of peak:",
              ratios_of(by_units, "slower"))


def h100_lines(paths):
    return [json.loads(line) for path in paths for line in open(path) if line.startswith("{")]


def h100_bytes_per_clock(device, ghz):
    return device["copy_bytes_per_s"] * 1e-9 / (ghz * device["num_sms"])


def block_factor(options, device, size, m, ratio):
    """How many times as long a block takes where the whole takes `ratio` times, on the H100."""
    launch = LAUNCH_US * options.ghz * 1e3
    low, high = 0.5, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        plan = plans(options.plan, [size], options.share, str(m), device["num_sms"],
                     h100_bytes_per_clock(device, options.ghz), factors=(middle, middle))[0]
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
    print("PREDICTED, not measured: A100, time without a part over the time with all, geomean of"
          " the paper's shapes\n(in brackets what the stand-in measured on the H100)\n")
    print("| without | " + " | ".join(f"M {m}" for m in sizes) + " |")
    print("|" + "---|" * (len(sizes) + 1))
    for variant in sorted({variant for variant, _ in ratios}):
        cells = []
        for m in sizes:
            measured = ratios[variant, m]
            is_split = variant == "naive_split"
            factor = 1.0 if is_split else geomean(
                [block_factor(options, lines[0], size, m, ratio) for size, ratio in measured])
            rows = plans(options.plan, shapes(), options.share, str(m), A100["num_sms"],
                         bytes_per_clock, factors=(factor, factor))
            longer = "naive" if is_split else "slower"
            predicted = geomean([(launch + r[longer]) / (launch + r["chosen"]) for r in rows])
            cells.append(f"{predicted:.2f} ({geomean([r for _, r in measured]):.2f})")
        print(f"| {variant} | " + " | ".join(cells) + " |")


def even(options):
    bytes_per_clock = A100["bytes_per_us"] / (A100["ghz"] * 1e3 * A100["num_sms"])
    rows = plans(options.plan, shapes(), options.share, options.m, A100["num_sms"],
                 bytes_per_clock)
    print(f"PREDICTED, not measured: A100, {A100['num_sms']} SMs, INT4 share {options.share}\n")
    print("| M | naive | remapped | chosen | worst | within 1.03 | of plans that cut tiles |"
          " evenest plan: within 1.03 | over chosen |\n|" + "---|" * 9)
    for m in sorted({row["m"] for row in rows}):
        of_m = [row for row in rows if row["m"] == m]
        cut = [row for row in of_m if row["whole_tiles"] < row["tiles"]]
        ratio = {name: geomean([row[name] / row["bound"] for row in of_m])
                 for name in ("naive", "remapped", "chosen")}
        print(f"| {m} | {ratio['naive']:.2f} | {ratio['remapped']:.2f} | {ratio['chosen']:.3f} |"
              f" {max(row['chosen'] / row['bound'] for row in of_m):.2f} |"
              f" {sum(map(is_even, of_m))} of {len(of_m)} |"
              f" {sum(map(is_even, cut))} of {len(cut)} |"
              f" {sum(row['balanced'] <= 1.03 * row['balanced_bound'] for row in of_m)} |"
              f" {geomean([row['balanced'] / row['chosen'] for row in of_m]):.3f} |")
    print("\n| beyond 1.03: N x K | M | tile | over its bound | evenest plan, over chosen |\n"
          "|---|---|---|---|---|")
    for row in rows:
        if not is_even(row):
            print(f"| {row['n']}x{row['k']} | {row['m']} | {row['tile_outputs']}x"
                  f"{row['tile_tokens']} | {row['chosen'] / row['bound']:.2f} |"
                  f" {row['balanced'] / row['chosen']:.2f} |")
    if not options.even:
        return
    times = {}
    for row in h100_lines(options.even):
        if row.get("variant") in ("stand_in", "balanced"):
            times.setdefault((row["m"], row["n"], row["k"]), {})[row["variant"]] = row
    print("\nMEASURED, stand-in on an H100, 132 SMs\n\n| beyond 1.03: N x K | M | over its bound |"
          " us | evenest plan, us | over chosen |\n|---|---|---|---|---|---|")
    ratios = {}
    for (m, n, k), row in sorted(times.items()):
        chosen, balanced = row["stand_in"], row["balanced"]
        if chosen["model"] <= 1.03 * chosen["bound"]:
            continue
        ratios.setdefault(m, []).append(balanced["us"] / chosen["us"])
        print(f"| {n}x{k} | {m} | {chosen['model'] / chosen['bound']:.2f} | {chosen['us']:.1f} |"
              f" {balanced['us']:.1f} | {balanced['us'] / chosen['us']:.2f} |")
    for m, values in ratios.items():
        print(f"M {m}: of {sum(key[0] == m for key in times)} products {len(values)} are beyond"
              f" 1.03; the evenest plan of these takes {geomean(values):.3f} times as long,"
              f" {min(values):.2f} to {max(values):.2f}")


def is_even(row):
    return row["chosen"] <= 1.03 * row["bound"]


def check(options):
    lines = h100_lines(options.check)
    device = lines[0]
    products, num_plans, num_plans_within = {}, 0, 0
    for row in lines:
        if row.get("variant") not in ("stand_in", "configs"):
            continue
        share = row["int4_blocks"] / (row["int4_blocks"] + row["int8_blocks"])
        times = products.setdefault((row["n"], row["k"], row["m"], share), {})
        ghz = row.get("ghz", options.ghz)
        times.setdefault((row["config"], row["whole_tiles"], row["ctas"], row["cuts"]),
                         (row["us"], ghz))
        num_plans += 1
        us = LAUNCH_US + row["model"] / (ghz * 1e3)
        num_plans_within += abs(us / row["us"] - 1) <= 0.15
    within, missed, others, slower = 0, [], 0, []
    for (n, k, m, share), times in products.items():
        ghz = geomean([ghz for _, ghz in times.values()])
        plan = plans(options.plan, [(n, k)], share + 1e-9, str(m), device["num_sms"],
                     h100_bytes_per_clock(device, ghz))[0]
        identity = plan["config"], plan["whole_tiles"], plan["ctas"], plan["cuts"]
        if identity not in times:
            others += 1
            continue
        measured, ghz = times[identity]
        us = LAUNCH_US + plan["chosen"] / (ghz * 1e3)
        slower.append(measured / min(us for us, _ in times.values()))
        error = us / measured - 1
        if abs(error) <= 0.15:
            within += 1
        else:
            missed.append(f"{n}x{k} M {m}: model {us:.1f}, measured {measured:.1f}"
                          f" ({error:+.0%})")
    print(f"{within} of {within + len(missed)} products within 15 % by the plan that is chosen; of"
          f" {others} more it was not timed.")
    if slower:
        print(f"It is {geomean(slower) - 1:.1%} slower than the best of those timed.")
    print(f"{num_plans_within} of {num_plans} plans within 15 % by the constants of that bench.")
    print("Products that are not:")
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
    parser.add_argument("--ghz", type=float, default=1.8,
                        help="the H100's clock where a FILE does not say")
    parser.add_argument("--even", metavar="FILE", nargs="*")
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
    elif options.even is not None:
        even(options)
    else:
        predict(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
