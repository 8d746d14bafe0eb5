#!/usr/bin/env bash
# Configures and builds one preset: scripts/build.sh [release|dev|cpu-only|asan|tsan] [target ...]
# A host with a GPU but no nvcc stops here, unless --cpu comes first.
set -euo pipefail
cd "$(dirname "$0")/.."

allow_cpu=false
if [ "${1:-}" = --cpu ]; then allow_cpu=true; shift; fi
preset=${1:-release}
shift || true

PATH=$PATH:/usr/local/cuda/bin
if [ "$allow_cpu" = false ] && [ -e /dev/nvidiactl ] && ! command -v nvcc >/dev/null; then
  echo "build: this host has a GPU but no nvcc: install the CUDA 13 toolkit" \
    "(package cuda-toolkit-13-0), or say --cpu to build without GPU code" >&2
  exit 1
fi
targets=()
for target in "$@"; do targets+=(--target "$target"); done

cmake --preset "$preset" --log-level=WARNING
cmake --build --preset "$preset" "${targets[@]}"
