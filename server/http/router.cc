#include "server/http/router.h"

#include <string_view>
#include <utility>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

bool IsWildcard(std::string_view path) { return path.ends_with('*'); }

bool Matches(std::string_view route, std::string_view path) {
  if (!IsWildcard(route)) return route == path;
  const std::string_view prefix = route.substr(0, route.size() - 1);
  return path.size() > prefix.size() && path.starts_with(prefix);
}

ApiStatus NoSuchPath(const HttpRequest& request) {
  ApiStatus outcome(
      NotFound(StrCat("path: ", request.method, " ", request.path, " does not exist")));
  outcome.code = "unknown_url";
  return outcome;
}

ApiStatus NoSuchMethod(const HttpRequest& request, const std::string& allowed) {
  ApiStatus outcome(InvalidArgument(StrCat("method: ", request.method, " is not allowed for ",
                                           request.path, ", expected ", allowed)));
  outcome.http_status = 405;
  outcome.code = "method_not_allowed";
  outcome.headers = {{"Allow", allowed}};
  return outcome;
}

ApiStatus NotJson(const HttpRequest& request) {
  ApiStatus outcome(InvalidArgument(
      StrCat("Content-Type: value is ", request.content_type, ", expected application/json")));
  outcome.http_status = 415;
  outcome.code = "unsupported_media_type";
  return outcome;
}

}  // namespace

void Router::Add(std::string method, std::string path, HttpHandler handler) {
  Route route{std::move(method), std::move(path), std::move(handler)};
  const bool is_wildcard = IsWildcard(route.path);
  routes_.insert(is_wildcard ? routes_.end() : routes_.begin(), std::move(route));
}

Task<ApiStatus> Router::Handle(HttpExchange& exchange) const {
  const HttpRequest& request = exchange.request();
  std::string_view method = request.method;
  if (method == "HEAD") method = "GET";
  std::string allowed;
  for (const Route& route : routes_) {
    if (!Matches(route.path, request.path)) continue;
    if (route.method != method) {
      allowed += (allowed.empty() ? "" : ", ") + route.method;
      if (route.method == "GET") allowed += ", HEAD";
      continue;
    }
    // A body without a type is taken for what every handler expects.
    const bool has_other_type =
        !request.content_type.empty() && request.content_type != "application/json";
    if (method == "POST" && has_other_type) co_return NotJson(request);
    co_return co_await route.handler(exchange);
  }
  if (!allowed.empty()) co_return NoSuchMethod(request, allowed);
  co_return NoSuchPath(request);
}

}  // namespace comet
