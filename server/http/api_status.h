#pragma once

#include <string>
#include <utility>

#include "kernels/base/status.h"
#include "server/http/http_message.h"

namespace comet {

// The outcome of an API call: a Status, and what OpenAI's error object says beside its message.
struct ApiStatus {
  ApiStatus() = default;
  ApiStatus(Status from)
      : status(std::move(from)) {}  // NOLINT: implicit, so that macros pass it on

  bool ok() const { return status.ok(); }

  Status status;
  std::string param;                // The field at fault; empty: none.
  std::string code;                 // A more exact word than the status code's; empty: that.
  int http_status = 0;              // 0: the status table's.
  std::vector<HttpHeader> headers;  // Added to the HTTP answer.
};

// A fault of one field: the message reads "<param>: <what>".
ApiStatus FieldFault(const std::string& param, const std::string& what);

// The HTTP status this outcome is told with.
int HttpStatusOf(const ApiStatus& outcome);
// OpenAI's error.code.
std::string ErrorCodeOf(const ApiStatus& outcome);
// {"error": {"message", "type", "param", "code"}}
std::string ErrorBody(const ApiStatus& outcome);
// The whole answer.
HttpResponse ErrorResponse(const ApiStatus& outcome);

}  // namespace comet
