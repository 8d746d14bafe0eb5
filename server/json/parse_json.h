#pragma once

#include <cstdint>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "kernels/base/status.h"

namespace comet {

struct JsonLimits {
  int depth_max = 64;              // Nesting of arrays and objects.
  int64_t values_max = 1'000'000;  // Values of any kind: bounds memory, which is ~40 bytes a value.
};

// Reads one JSON text (RFC 8259) from outside bytes. Depth and count are checked while reading,
// before anything deeper or further is built, so that no input can exhaust stack or memory. Errors:
// kInvalidArgument saying what is wrong at which byte: not JSON, invalid UTF-8, a limit.
Result<nlohmann::json> ParseJson(std::string_view text, const JsonLimits& limits = {});

}  // namespace comet
