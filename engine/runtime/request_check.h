#pragma once

#include "engine/request.h"
#include "kernels/base/status.h"

namespace comet {

inline constexpr int kStopTextsMax = 16;
inline constexpr int kStopTextBytesMax = 1024;
inline constexpr int kStopTokensMax = 128;

// What a request is held to.
struct RequestLimits {
  int context_length_max = 0;
  int vocab_size = 0;
  int choices_max = 0;
};

// Errors: kInvalidArgument naming the first field that is out of range, what it is and what was
// expected.
Status Validate(const Request& request, const RequestLimits& limits);

}  // namespace comet
