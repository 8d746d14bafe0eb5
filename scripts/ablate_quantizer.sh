#!/usr/bin/env bash
# Perplexity of a model with each stage of the quantiser off in turn, and over INT4 shares and KV
# bits. Prints one line a setting; checkpoints are made in a temporary folder and removed.
#
#   scripts/ablate_quantizer.sh MODEL.gguf TEXT [WINDOWS] [further options of comet quantize]
#
# Example, off the source's grid:
#   scripts/ablate_quantizer.sh models/SmolLM2-135M-Instruct.Q4_1.gguf valid.txt 16 --rescale-seed 1
set -euo pipefail

if [[ $# -lt 2 ]]; then
  sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//'
  exit 2
fi
model=$1
text=$2
windows=${3:-16}
further=("${@:4}")
comet=${COMET:-build/release/bin/comet}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

quantize() {  # NAME OPTIONS...
  local name=$1
  shift
  "$comet" quantize "$model" --output "$work/$name" --force "${further[@]}" "$@" >"$work/log" 2>&1 ||
    { cat "$work/log"; exit 1; }
}

evaluate() {  # NAME LABEL ACTIVATION_BITS KV_BITS
  local line
  line=$("$comet" eval perplexity --model "$work/$1" --text "$text" --windows "$windows" \
    --activation-bits "$3" --kv-bits "$4" 2>/dev/null | tail -n 1)
  printf '%-28s %s\n' "$2" "$line"
}

printf '%-28s ' float
"$comet" eval perplexity --model "$model" --text "$text" --windows "$windows" 2>/dev/null | tail -n 1

quantize whole
for kv in 16 8 4 8/4 4/8; do evaluate whole "all stages" 8 "$kv"; done
evaluate whole "all stages" mixed 4
evaluate whole "all stages, float act." float 32
rm -rf "$work/whole"

for stage in --no-rotation --no-down-hadamard --float-calibration --no-error-feedback \
  "--refinement-rounds 0" --no-key-smoothing "--tuning-steps 0" \
  "--tuning-code-rate 0"; do
  # shellcheck disable=SC2086  # An option and its value.
  quantize part $stage
  for kv in 16 4; do evaluate part "$stage" 8 "$kv"; done
  evaluate part "$stage" mixed 4
done
for share in 0 0.5 0.84 1.0; do
  quantize part --int4-share "$share"
  for bits in 8 mixed; do evaluate part "--int4-share $share" "$bits" 4; done
done
