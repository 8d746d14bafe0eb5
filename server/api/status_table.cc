#include "server/api/status_table.h"

#include <array>

#include "kernels/base/check.h"

namespace comet {
namespace {

constexpr std::string_view kInvalidRequest = "invalid_request_error";
constexpr std::string_view kRateLimit = "rate_limit_error";
constexpr std::string_view kServer = "server_error";

constexpr std::array kMappings = {
    StatusMapping{StatusCode::kOk, 200, 0, ""},
    StatusMapping{StatusCode::kInvalidArgument, 400, 3, kInvalidRequest},
    StatusMapping{StatusCode::kNotFound, 404, 5, kInvalidRequest},
    StatusMapping{StatusCode::kFailedPrecondition, 400, 9, kInvalidRequest},
    StatusMapping{StatusCode::kResourceExhausted, 429, 8, kRateLimit},
    StatusMapping{StatusCode::kUnimplemented, 501, 12, kServer},
    StatusMapping{StatusCode::kUnavailable, 503, 14, kServer},
    // 499 is nobody's standard but what proxies log for a client that went away.
    StatusMapping{StatusCode::kCancelled, 499, 1, kInvalidRequest},
    StatusMapping{StatusCode::kDeadlineExceeded, 504, 4, kServer},
    StatusMapping{StatusCode::kDataLoss, 500, 15, kServer},
    StatusMapping{StatusCode::kInternal, 500, 13, kServer},
};

}  // namespace

const StatusMapping& MappingOf(StatusCode code) {
  for (const StatusMapping& mapping : kMappings) {
    if (mapping.code == code) return mapping;
  }
  COMET_CHECK_MSG(false, "a StatusCode without a mapping");
  return kMappings.back();
}

std::string_view ErrorTypeOf(int http_status) {
  if (http_status == 429) return kRateLimit;
  return http_status >= 500 ? kServer : kInvalidRequest;
}

}  // namespace comet
