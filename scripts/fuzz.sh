#!/usr/bin/env bash
# Builds the fuzz targets with clang, ASan and UBSan, and runs each in turn.
#   scripts/fuzz.sh [SECONDS_PER_TARGET] [TARGET ...]     60 seconds, all targets
# Grows build/fuzz/corpus/TARGET from tests/fuzz/corpus/TARGET. A finding stops it, with the input in
# build/fuzz/findings: fix it, and put the input into the committed corpus. FUZZ_SKIP_BUILD=1 runs
# what is built.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for folder in tests/fuzz/corpus/*/; do targets+=("$(basename "$folder")"); done
fi

[ "${FUZZ_SKIP_BUILD:-0}" = 1 ] || scripts/build.sh --cpu fuzz comet_fuzzers

mkdir -p build/fuzz/findings
for target in "${targets[@]}"; do
  corpus=build/fuzz/corpus/$target
  mkdir -p "$corpus"
  printf '\n== %s, %s s\n' "$target" "$seconds"
  # A slow unit is a finding too: every target's work is bounded by its input's size.
  build/fuzz/bin/"fuzz_$target" -max_total_time="$seconds" -max_len=8192 -timeout=20 \
    -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="build/fuzz/findings/$target-" "$corpus" "tests/fuzz/corpus/$target" 2>&1 |
    grep -E '^stat::|ERROR|SUMMARY|runtime error|Test unit written|^ *#[0-9]+ 0x'
done
