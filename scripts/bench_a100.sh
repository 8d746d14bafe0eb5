#!/usr/bin/env bash
# On a host with an Ampere or Ada card: builds, runs the GPU tests, then times the W4Ax product in the
# checkpoint's mix beside cuBLASLt on the paper's shapes. This is the table that kernels/cuda/sm80_gemm.md
# can only predict.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_deps.sh test
scripts/build.sh release
scripts/test_gpu.sh
build/release/bin/comet bench ops --op w4ax_gemm --policy mixed \
  --shapes configs/bench/paper_shapes.json --json a100.json "$@"
