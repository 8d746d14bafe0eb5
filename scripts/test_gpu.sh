#!/usr/bin/env bash
# Runs the GPU tests of a release build on a host that has a GPU. A test that finds none fails.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -e /dev/nvidiactl ] || { echo "test_gpu: no GPU on this host" >&2; exit 1; }
scripts/build.sh release
COMET_REQUIRE_GPU=1 ctest --test-dir build/release --no-tests=error --output-on-failure -L gpu
