#!/usr/bin/env bash
# Configures and builds one preset: scripts/build.sh [release|dev|cpu-only|asan|tsan] [target ...]
# First of all may come --cpu (a host with a GPU but no nvcc stops here without it) or --cuda (no nvcc is an error).
set -euo pipefail
cd "$(dirname "$0")/.."

allow_cpu=false
cmake_options=()
case "${1:-}" in
  --cpu) allow_cpu=true; shift ;;
  --cuda) cmake_options=(-DCOMET_CUDA=ON); shift ;;
esac
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

cmake --preset "$preset" --log-level=WARNING "${cmake_options[@]}"
cmake --build --preset "$preset" "${targets[@]}"
