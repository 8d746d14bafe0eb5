#!/usr/bin/env bash
# Measures the default model's quality: perplexity of the float source and of
# W4A8 with KV 16, W4A8 with KV 4 and the checkpoint's mix with KV 4 over the WikiText-2 validation text;
# then the zero-shot mean of PIQA, ARC-easy and WinoGrande in float, W4A8KV4 and the mix.
#   COMET_TEST_DATA=DIR scripts/eval_quality.sh                  everything: hours on two cores
#   COMET_TEST_DATA=DIR scripts/eval_quality.sh --windows 16 --limit 200
#   --source GGUF --model DIR   another pair; the default model is fetched and quantised when missing
#   --json DIR                  also writes perplexity.json and choice.json there
# COMET_TEST_DATA holds text/wikitext-2-v1.valid.tokens.txt and eval/{piqa,arc_easy,winogrande}.jsonl.
set -euo pipefail
cd "$(dirname "$0")/.."

windows=0
limit=0
source=
model=
json=
while [ $# -gt 0 ]; do
  case "$1" in
    --windows) windows=${2:?"--windows needs a number"}; shift 2 ;;
    --limit) limit=${2:?"--limit needs a number"}; shift 2 ;;
    --source) source=${2:?"--source needs a file"}; shift 2 ;;
    --model) model=${2:?"--model needs a folder"}; shift 2 ;;
    --json) json=${2:?"--json needs a folder"}; shift 2 ;;
    *) echo "eval_quality: unknown argument $1" >&2; exit 2 ;;
  esac
done

data=${COMET_TEST_DATA:?"set it to the folder of the evaluation data"}
text=$data/text/wikitext-2-v1.valid.tokens.txt
files=("$data"/eval/{piqa,arc_easy,winogrande}.jsonl)
for file in "$text" "${files[@]}"; do
  [ -f "$file" ] || { echo "eval_quality: $file is missing" >&2; exit 1; }
done

comet=build/release/bin/comet
[ -x "$comet" ] || scripts/build.sh --cpu release comet
[ -n "$source" ] || source=$(scripts/fetch_model.sh)
if [ -z "$model" ]; then
  model=models/SmolLM2-135M-Instruct-comet
  [ -d "$model" ] || "$comet" quantize "$source" --output "$model"
fi

measure() {  # measure NAME COMMAND...: the table, or with --json its JSON into a file
  local name=$1
  shift
  if [ -z "$json" ]; then "$@"; return; fi
  mkdir -p "$json"
  "$@" --json >"$json/$name.json"
  echo "eval_quality: wrote $json/$name.json"
}

measure perplexity "$comet" eval perplexity --model "$model" --reference "$source" --text "$text" \
  --windows "$windows" --setting A8/KV16 --setting A8/KV4 --setting Amixed/KV4
measure choice "$comet" eval choice --model "$model" --reference "$source" --limit "$limit" \
  --setting A8/KV4 --setting Amixed/KV4 "${files[@]}"
