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
# A filter that matches nothing would pass.
run() {
  local listed
  listed=$(build/release/bin/"$1" --gtest_filter="$2" --gtest_list_tests)
  grep -q '^  ' <<<"$listed" || { echo "test_gpu: $1 has no test $2" >&2; exit 1; }
  build/release/bin/"$1" --gtest_filter="$2" --gtest_brief=1
}
run comet_cuda_test '*'
run comet_ops_test '*/cuda'
run comet_engine_test '*OnCuda'
# One of them skips where the default model is not there (scripts/fetch_model.sh, comet quantize).
run comet_model_test 'Cuda*'

# The daemon when its device fails.
model=models/SmolLM2-135M-Instruct-comet
if [ -d "$model" ]; then
  for file in bin/comet lib/libcomet_device_fault.so; do
    [ -e "build/release/$file" ] || { echo "test_gpu: build/release/$file is missing" >&2; exit 1; }
  done
  python3 tests/e2e/device_fault.py build/release/lib/libcomet_device_fault.so build/release/bin/comet serve \
    --model "$model" --device cuda --port 18099 --grpc-port -1
else
  echo "test_gpu: the daemon's end by a device fault is not tested, there is no $model"
fi
