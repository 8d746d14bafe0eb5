#pragma once

#include <functional>
#include <string>
#include <vector>

#include "server/http/api_status.h"
#include "server/http/http_exchange.h"
#include "server/http/task.h"

namespace comet {

// Answers one request, or returns why it cannot: the connection writes the error. Runs on the
// connection's I/O thread and must not block.
using HttpHandler = std::function<Task<ApiStatus>(HttpExchange&)>;

// Finds the handler of a path and method. Filled at start, immutable while serving.
class Router {
 public:
  // A path that ends in "*" matches every longer path; exact ones go first. "GET" answers HEAD too:
  // the connection leaves the body out.
  void Add(std::string method, std::string path, HttpHandler handler);

  // 404 for an unknown path; 405 with Allow for a known one; 415 for a body that isn't JSON.
  Task<ApiStatus> Handle(HttpExchange& exchange) const;

 private:
  struct Route {
    std::string method;
    std::string path;
    HttpHandler handler;
  };

  std::vector<Route> routes_;
};

}  // namespace comet
