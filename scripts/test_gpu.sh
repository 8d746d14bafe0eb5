#!/usr/bin/env bash
# Runs the GPU tests of a release build (scripts/build.sh) on a host that has a GPU. Builds nothing, so
# that a built tree can be copied to a host without a compiler. A test that finds no GPU fails.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -e /dev/nvidiactl ] || { echo "test_gpu: no GPU on this host" >&2; exit 1; }
for test in comet_cuda_test comet_ops_test comet_engine_test comet_model_test; do
  [ -x "build/release/bin/$test" ] || { echo "test_gpu: build/release/bin/$test is missing" >&2; exit 1; }
done
export COMET_REQUIRE_GPU=1
build/release/bin/comet_cuda_test --gtest_brief=1
build/release/bin/comet_ops_test --gtest_filter='*/cuda' --gtest_brief=1
build/release/bin/comet_engine_test --gtest_filter='*OnCuda' --gtest_brief=1
# One of them skips where the default model is not there (scripts/fetch_model.sh, comet quantize).
build/release/bin/comet_model_test --gtest_filter='Cuda*' --gtest_brief=1
