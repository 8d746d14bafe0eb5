// One libFuzzer program a target, named by COMET_FUZZ_TARGET.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  comet::COMET_FUZZ_TARGET({reinterpret_cast<const char*>(data), size});
  return 0;
}
