#include "server/http/api_status.h"

#include <nlohmann/json.hpp>

#include "kernels/base/str_cat.h"
#include "server/api/status_table.h"

namespace comet {

ApiStatus FieldFault(const std::string& param, const std::string& what) {
  ApiStatus outcome(InvalidArgument(StrCat(param, ": ", what)));
  outcome.param = param;
  return outcome;
}

int HttpStatusOf(const ApiStatus& outcome) {
  return outcome.http_status != 0 ? outcome.http_status
                                  : MappingOf(outcome.status.code()).http_status;
}

std::string ErrorCodeOf(const ApiStatus& outcome) {
  return outcome.code.empty() ? std::string(ToString(outcome.status.code())) : outcome.code;
}

std::string ErrorBody(const ApiStatus& outcome) {
  using Json = nlohmann::ordered_json;
  const Json body = {{"error",
                      {{"message", outcome.status.message()},
                       {"type", ErrorTypeOf(HttpStatusOf(outcome))},
                       {"param", outcome.param.empty() ? Json(nullptr) : Json(outcome.param)},
                       {"code", ErrorCodeOf(outcome)}}}};
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

HttpResponse ErrorResponse(const ApiStatus& outcome) {
  return {.status = HttpStatusOf(outcome), .body = ErrorBody(outcome), .headers = outcome.headers};
}

}  // namespace comet
