#include "server/admin/admin_api.h"

namespace comet {
namespace {

Task<ApiStatus> HandleHealth(const AdminContext&, HttpExchange& exchange) {
  co_return co_await exchange.Write(JsonResponse(R"({"status":"alive"})"));
}

Task<ApiStatus> HandleReady(const AdminContext& context, HttpExchange& exchange) {
  const Status ready = CheckReady(context);
  if (!ready.ok()) {
    ApiStatus outcome(ready);
    outcome.http_status = 503;
    co_return outcome;
  }
  co_return co_await exchange.Write(JsonResponse(R"({"status":"ready"})"));
}

Task<ApiStatus> HandleMetrics(const AdminContext& context, HttpExchange& exchange) {
  HttpResponse response;
  response.content_type = kMetricsContentType;
  response.body = context.metrics.Scrape();
  co_return co_await exchange.Write(std::move(response));
}

}  // namespace

Status CheckReady(const AdminContext& context) {
  if (context.admission.is_draining()) return Unavailable("server: draining");
  return context.engine.CheckReady();
}

void AddAdminRoutes(const AdminContext& context, Router& router) {
  const auto add = [&](const char* path, auto handle) {
    router.Add("GET", path,
               [&context, handle](HttpExchange& exchange) { return handle(context, exchange); });
  };
  add("/health", HandleHealth);
  add("/ready", HandleReady);
  add("/metrics", HandleMetrics);
}

}  // namespace comet
