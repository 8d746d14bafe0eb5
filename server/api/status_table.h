#pragma once

#include <string_view>

#include "kernels/base/status.h"

namespace comet {

// How one outcome is told to HTTP and to gRPC clients.
struct StatusMapping {
  StatusCode code;
  int http_status;
  int grpc_code;                // grpc::StatusCode's number.
  std::string_view error_type;  // OpenAI's error.type
};

// The one table from StatusCode to wire codes.
const StatusMapping& MappingOf(StatusCode code);

// OpenAI's error.type for an HTTP status that has no StatusCode of its own (405, 413, 415, ...).
std::string_view ErrorTypeOf(int http_status);

}  // namespace comet
