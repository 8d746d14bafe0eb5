#include "tests/server/http_server_fixture.h"

#include <thread>
#include <utility>

#include "kernels/base/str_cat.h"
#include "server/http/sse.h"

namespace comet {
namespace {

constexpr int kScribblesMax = 10000;  // 60 kB with their framing, which any socket's buffer holds.

}  // namespace

void HttpServerTest::StartServer(HttpConfig config) {
  config.port = 0;
  if (config.num_threads == 0) config.num_threads = 2;  // Connections lie on them in turns.
  AddRoutes();
  Result<std::unique_ptr<HttpServer>> server = HttpServer::Bind(config, router_);
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = std::move(server).value();
  ASSERT_TRUE(server_->Start().ok());
}

void HttpServerTest::AddRoutes() {
  router_.Add("GET", "/health", [](HttpExchange& exchange) { return Hello(exchange); });
  router_.Add("POST", "/echo", [](HttpExchange& exchange) { return Echo(exchange); });
  router_.Add("GET", "/items/*", [](HttpExchange& exchange) { return Path(exchange); });
  router_.Add("POST", "/fail", [](HttpExchange&) { return Fail(); });
  router_.Add("GET", "/fail", [](HttpExchange&) { return Fail(); });
  router_.Add("GET", "/late", [](HttpExchange& exchange) { return FailLate(exchange); });
  router_.Add("POST", "/late", [](HttpExchange& exchange) { return FailLate(exchange); });
  router_.Add("POST", "/pool", [this](HttpExchange& exchange) { return UsePool(exchange); });
  router_.Add("POST", "/wait", [this](HttpExchange& exchange) { return WaitForLeave(exchange); });
  router_.Add("POST", "/tick", [this](HttpExchange& exchange) { return Tick(exchange); });
  router_.Add("POST", "/scribble", [this](HttpExchange& exchange) { return Scribble(exchange); });
  router_.Add("POST", "/leave", [this](HttpExchange& exchange) { return TellScribbler(exchange); });
  router_.Add("POST", "/flood", [this](HttpExchange& exchange) { return Flood(exchange); });
}

Task<ApiStatus> HttpServerTest::Hello(HttpExchange& exchange) {
  co_return co_await exchange.Write(JsonResponse("{}"));
}

Task<ApiStatus> HttpServerTest::Echo(HttpExchange& exchange) {
  co_return co_await exchange.Write(JsonResponse(exchange.request().body));
}

Task<ApiStatus> HttpServerTest::Path(HttpExchange& exchange) {
  co_return co_await exchange.Write(JsonResponse(exchange.request().path));
}

Task<ApiStatus> HttpServerTest::Fail() {
  co_return FieldFault("n", "value is 0, expected at least 1");
}

Task<ApiStatus> HttpServerTest::FailLate(HttpExchange& exchange) {
  exchange.BeginStream(kSseContentType);
  COMET_CO_RETURN_IF_ERROR(co_await exchange.WriteStream(FormatSse("first")));
  co_return Internal("engine: broke");
}

Task<ApiStatus> HttpServerTest::UsePool(HttpExchange& exchange) {
  std::thread::id job_thread;
  std::function<void()> job = [&] { job_thread = std::this_thread::get_id(); };
  COMET_CO_RETURN_IF_ERROR(co_await RunOnPool(exchange, pool_, std::move(job)));
  const bool is_elsewhere = job_thread != std::this_thread::get_id();
  co_return co_await exchange.Write(JsonResponse(is_elsewhere ? "worker" : "i/o thread"));
}

Task<ApiStatus> HttpServerTest::WaitForLeave(HttpExchange& exchange) {
  waker_ = exchange.MakeWaker();
  has_begun_.set_value();
  while (!exchange.is_client_gone()) co_await exchange.Wait();
  has_left_.set_value();
  co_return Cancelled("client left");
}

Task<ApiStatus> HttpServerTest::Tick(HttpExchange& exchange) {
  exchange.BeginStream(kSseContentType);
  for (int i = 0; i < kNumTicks; ++i) {
    {
      const std::lock_guard lock(ticking_mutex_);
      ticking_.push_back(exchange.MakeWaker());
    }
    co_await exchange.Wait();
    COMET_CO_RETURN_IF_ERROR(co_await exchange.WriteStream(FormatSse("tick")));
  }
  co_return co_await exchange.EndStream(FormatSse("end"));
}

Task<ApiStatus> HttpServerTest::Scribble(HttpExchange& exchange) {
  has_begun_.set_value();
  if (scribbler_may_write_.get_future().wait_for(kSoon) != std::future_status::ready) {
    co_return Internal("scribbler: never let go");
  }
  exchange.BeginStream(kSseContentType);
  for (int i = 0; i < kScribblesMax && !scribbler_was_told_; ++i) {
    COMET_CO_RETURN_IF_ERROR(co_await exchange.WriteStream("x"));
  }
  co_return co_await exchange.EndStream(scribbler_was_told_ ? "told" : "never told");
}

Task<ApiStatus> HttpServerTest::TellScribbler(HttpExchange& exchange) {
  scribbler_was_told_ = true;
  co_return co_await exchange.Write(JsonResponse("{}"));
}

Task<ApiStatus> HttpServerTest::Flood(HttpExchange& exchange) {
  exchange.BeginStream(kSseContentType);
  Status written;
  while (written.ok()) written = co_await exchange.WriteStream(std::string(64 << 10, 'x'));
  flood_end_.set_value(written.code());
  co_return written;
}

std::string HttpServerTest::Get(std::string_view path) {
  return StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
}

std::string HttpServerTest::Head(std::string_view path, std::string_view headers) {
  return StrCat("HEAD ", path, " HTTP/1.1\r\nHost: x\r\n", headers, "\r\n");
}

std::string HttpServerTest::Post(std::string_view path, std::string_view body,
                                 std::string_view headers) {
  return StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\n", headers, "Content-Length: ", body.size(),
                "\r\n\r\n", body);
}

std::string HttpServerTest::Ask(std::string_view request) {
  return RawClient(server_->port()).Send(request).ReadAll();
}

int HttpServerTest::StatusOf(const std::string& answer) {
  return answer.starts_with("HTTP/1.1 ") ? std::stoi(answer.substr(9, 3)) : 0;
}

bool HttpServerTest::IsHeadOnly(const std::string& answer) {
  const size_t end = answer.find("\r\n\r\n");
  return end != std::string::npos && end + 4 == answer.size();
}

}  // namespace comet
