#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests.
#   scripts/test.sh         release build (GPU code where nvcc is) with every fast test and the
#                           end-to-end ones, and the parsers, text and scheduler under ASan + UBSan
#   scripts/test.sh --all   adds: all of it under ASan + UBSan, TSan, clang, the CPU-only preset, random
#                           models beside transformers, 30 s of each fuzz target, the soak
set -euo pipefail
cd "$(dirname "$0")/.."

all=false
case "${1:-}" in
  "") ;;
  --all) all=true ;;
  *) echo "usage: $0 [--all]" >&2; exit 2 ;;
esac

say() { printf '\n== %s\n' "$*"; }
run_ctest() {  # run_ctest BUILD_DIR [ctest arguments]
  local folder=$1
  shift
  ctest --test-dir "$folder" --no-tests=error --output-on-failure -j "$(nproc)" "$@"
}

say "packages"
scripts/install_deps.sh test
if [ ! -x .venv/bin/pytest ]; then
  python3 -m venv .venv
  .venv/bin/pip install -q --require-hashes -r tests/e2e/requirements.txt
fi
if ! .venv/bin/python -c 'import sentencepiece, tokenizers' 2>/dev/null; then
  .venv/bin/pip install -q --no-deps --require-hashes -r tests/engine/text/requirements.txt
fi

say "release build"
scripts/build.sh --cpu release

say "default model"
gguf=$(scripts/fetch_model.sh)
checkpoint=models/SmolLM2-135M-Instruct-comet
# Few tokens and steps: the tests judge what serves the checkpoint, not its quality.
[ -d "$checkpoint" ] || build/release/bin/comet quantize "$gguf" --output "$checkpoint" \
  --calibration-tokens 4096 --tuning-steps 2

say "parsers, text and scheduler under ASan and UBSan"
asan_targets=(comet_base_test comet_text_test comet_fuzz_corpus_test comet_checkpoint_test
  comet_scheduler_test comet_server_test)
scripts/build.sh --cpu asan "${asan_targets[@]}"
for target in "${asan_targets[@]}"; do
  COMET_SOURCE_DIR=$PWD "build/asan/bin/$target" --gtest_brief=1
done

if [ "$all" = true ]; then
  say "everything under ASan and UBSan"
  scripts/build.sh --cpu asan
  run_ctest build/asan -LE 'e2e|gpu|slow'
  say "everything under TSan"
  scripts/build.sh --cpu tsan
  TSAN_OPTIONS="ignore_noninstrumented_modules=1 suppressions=$PWD/tests/tsan.supp" \
    run_ctest build/tsan -LE 'e2e|gpu|slow'
  say "CPU-only preset"
  scripts/build.sh --cpu cpu-only
  say "clang"
  cmake -S . -B build/clang -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DCOMET_CUDA=OFF
  cmake --build build/clang
  say "sources beside transformers"
  [ -x build/oracle/bin/pip ] || python3 -m venv build/oracle
  build/oracle/bin/pip install -q --require-hashes -r tests/engine/sources/requirements.txt
  rm -rf build/source_models
  seed=$RANDOM
  echo "seed $seed"
  build/oracle/bin/python tests/engine/sources/make_models.py build/source_models "$seed"
  COMET_SOURCE_DIR=$PWD COMET_SOURCE_MODELS=$PWD/build/source_models build/release/bin/comet_model_test \
    --gtest_brief=1 --gtest_filter='SourceLogits.*:GgufGroups.*'
  say "fuzz"
  scripts/fuzz.sh 30
  say "soak"
  .venv/bin/python tests/e2e/soak.py --binary build/release/bin/comet --model "$checkpoint" \
    --seconds 120
fi

say "tests of the release build"
run_ctest build/release
