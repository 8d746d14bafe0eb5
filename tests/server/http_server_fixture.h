#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/http_server.h"
#include "server/http/worker_pool.h"
#include "tests/server/http_client.h"

namespace comet {

constexpr auto kSoon = std::chrono::seconds(15);  // Long enough for a busy machine.
constexpr int kNumTicks = 50;

// A server on a free port whose routes exercise one thing each.
class HttpServerTest : public testing::Test {
 protected:
  void StartServer(HttpConfig config = {});

  static std::string Get(std::string_view path);
  static std::string Head(std::string_view path, std::string_view headers = "");
  static std::string Post(std::string_view path, std::string_view body,
                          std::string_view headers = "Connection: close\r\n");
  // All that the server says to `request` on a connection of its own.
  std::string Ask(std::string_view request);

  // Of an answer; 0 when it is none.
  static int StatusOf(const std::string& answer);
  static bool IsHeadOnly(const std::string& answer);

  WorkerPool pool_{{.num_threads = 1, .waiting_max = 4}};
  std::promise<void> has_begun_;
  std::promise<void> has_left_;
  std::function<void()> waker_;
  std::promise<void> scribbler_may_write_;
  bool scribbler_was_told_ = false;  // The one I/O thread's.
  std::promise<StatusCode> flood_end_;
  std::mutex ticking_mutex_;
  std::vector<std::function<void()>> ticking_;  // Each is called once.
  Router router_;
  std::unique_ptr<HttpServer> server_;

 private:
  void AddRoutes();
  static Task<ApiStatus> Hello(HttpExchange& exchange);
  static Task<ApiStatus> Echo(HttpExchange& exchange);
  static Task<ApiStatus> Path(HttpExchange& exchange);
  static Task<ApiStatus> Fail();
  static Task<ApiStatus> FailLate(HttpExchange& exchange);
  Task<ApiStatus> UsePool(HttpExchange& exchange);
  // Answers nothing until the client has left.
  Task<ApiStatus> WaitForLeave(HttpExchange& exchange);
  // An event for each of kNumTicks wakes that come from elsewhere, as a step's tokens do.
  Task<ApiStatus> Tick(HttpExchange& exchange);
  // Writes what the socket always takes at once, until the client of /leave was heard.
  Task<ApiStatus> Scribble(HttpExchange& exchange);
  Task<ApiStatus> TellScribbler(HttpExchange& exchange);
  // Writes until that fails.
  Task<ApiStatus> Flood(HttpExchange& exchange);
};

}  // namespace comet
