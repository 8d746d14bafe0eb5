#include "server/api/finish_reason.h"

namespace comet {

std::string_view ToString(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kCancelled: return "cancelled";
    case FinishReason::kDeadline: return "deadline";
    case FinishReason::kError: return "error";
  }
  return "?";
}

Status FailureOf(const OutputDelta& delta) {
  if (!delta.finish_reason) return Status::Ok();
  switch (*delta.finish_reason) {
    case FinishReason::kStop:
    case FinishReason::kLength: return Status::Ok();
    case FinishReason::kDeadline:
      return DeadlineExceeded("request: its time ran out before its last token");
    // A client that left reads no answer, so whoever reads this was cut off by the server.
    case FinishReason::kCancelled: return Unavailable("request: the server stopped it");
    case FinishReason::kError:
      return delta.status.ok() ? Internal("request: the engine failed it") : delta.status;
  }
  return Internal("request: unknown end");
}

}  // namespace comet
