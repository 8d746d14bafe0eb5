#pragma once

#include <string_view>

#include "engine/request.h"
#include "kernels/base/status.h"

namespace comet {

// "stop", "length", "cancelled", "deadline", "error": logs, metrics and OpenAI's first two.
std::string_view ToString(FinishReason reason);

// Why a choice failed, of its last delta; OK when it ended by itself.
Status FailureOf(const OutputDelta& delta);

}  // namespace comet
