#!/usr/bin/env bash
# Perplexity of a model with each stage of the quantiser off in turn, over INT4 shares, bits of K and
# V, and off the source's grid and on it; as a table, over the float model's. Checkpoints are made in a
# temporary folder and removed.
#   scripts/ablate_quantizer.sh MODEL.gguf TEXT [--windows N] [--jobs N] [--device D] [--only REGEX]
#                               [--rescale-seed N] [-- further options of comet quantize]
#   --windows N        of the text: 64; the defaults' row takes the whole text
#   --jobs N           settings quantised at once, the processors dealt out among them: 1
#   --device D         that evaluates: cpu, or cuda, which has no KV 16
#   --only REGEX       rows whose name matches
#   --rescale-seed N   of all rows but 'unscaled': 1
# COMET names the program: build/release/bin/comet.
set -euo pipefail

usage() { sed -n '2,12p' "$0" | sed 's/^# \{0,1\}//'; exit 2; }
[ $# -ge 2 ] || usage
export MODEL=$1 TEXT=$2 WINDOWS=64 DEVICE=cpu
jobs=1
only=.
seed=1
shift 2
while [ $# -gt 0 ]; do
  case "$1" in
    --windows) WINDOWS=$2 ;;
    --jobs) jobs=$2 ;;
    --device) DEVICE=$2 ;;
    --only) only=$2 ;;
    --rescale-seed) seed=$2 ;;
    --) shift; break ;;
    *) usage ;;
  esac
  shift 2
done
export FURTHER="$*" COMET=${COMET:-build/release/bin/comet}
export THREADS=$(($(nproc) / jobs > 0 ? $(nproc) / jobs : 1))
WORK=$(mktemp -d)
export WORK
trap 'rm -rf "$WORK"' EXIT

perplexity() {  # MODEL WINDOWS SETTING...: one number a line
  local model=$1 windows=$2 settings=()
  shift 2
  for setting in "$@"; do settings+=(--setting "$setting"); done
  "$COMET" eval perplexity --model "$model" --text "$TEXT" --windows "$windows" --json \
    --device "$([[ $model == *.gguf ]] && echo cpu || echo "$DEVICE")" --threads "$THREADS" \
    "${settings[@]}" 2>"$WORK/eval.$BASHPID" |
    sed -n 's/.*"perplexity": \([0-9.]*\).*/\1/p'
}

# One row: NAME WINDOWS SETTINGS OPTIONS, the latter two with commas for blanks.
row() {
  local name=$1 windows=$2 settings=$3 options=$4 folder
  folder=$(mktemp -d -p "$WORK")
  # shellcheck disable=SC2086  # Options and their values.
  "$COMET" quantize "$MODEL" --output "$folder/model" --threads "$THREADS" ${options//,/ } $FURTHER \
    >"$folder/log" 2>&1 || { tail -n 3 "$folder/log" >&2; exit 255; }
  # shellcheck disable=SC2086
  perplexity "$folder/model" "$windows" ${settings//,/ } >"$folder/result"
  local floats cells=""
  floats=$(cat "$WORK/float.$windows")
  while read -r value; do
    cells+=$(awk -v p="$value" -v f="$floats" 'BEGIN {printf " | %.2f (%+.1f %%)", p, 100 * (p / f - 1)}')
  done <"$folder/result"
  echo "| $name$cells |"
  rm -rf "$folder"
}
export -f perplexity row

kv16=A8/KV16,
[ "$DEVICE" = cpu ] || kv16=
three=${kv16}A8/KV4,Amixed/KV4
rescaled=--rescale-seed,$seed
rows=("defaults, whole text;0;$three;$rescaled" "defaults;$WINDOWS;$three;$rescaled"
  "defaults, A8 with KV 8, 8/4;$WINDOWS;A8/KV8,A8/KV8/4;$rescaled" "unscaled;$WINDOWS;$three;")
for stage in --no-rotation --no-down-hadamard --float-calibration --no-error-feedback \
  --refinement-rounds,0 --no-key-smoothing --tuning-code-rate,0 --tuning-steps,0; do
  rows+=("${stage//,/ };$WINDOWS;$three;$rescaled,$stage")
done
for share in 0 0.5 1; do
  rows+=("--int4-share $share;$WINDOWS;$three;$rescaled,--int4-share,$share")
done

"$COMET" quantize --help >"$WORK/help"  # A program that does not start is told of at once.
for windows in 0 "$WINDOWS"; do
  "$COMET" eval perplexity --model "$MODEL" --text "$TEXT" --windows "$windows" --setting Afloat/KV32 \
    --json 2>/dev/null | sed -n 's/.*"perplexity": \([0-9.]*\).*/\1/p' >"$WORK/float.$windows"
  echo "float, windows $windows: $(cat "$WORK/float.$windows")"
done
echo "| setting | ${three//,/ | } |"
printf '%s\n' "${rows[@]}" | grep -E -- "$only" |
  xargs -d '\n' -P "$jobs" -I{} bash -c 'IFS=";" read -r a b c d <<<"$1"; row "$a" "$b" "$c" "$d"' _ {}
