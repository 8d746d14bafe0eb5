#include "server/http/http_server.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "kernels/base/str_cat.h"
#include "server/http/sse.h"
#include "server/http/worker_pool.h"
#include "tests/server/http_client.h"

namespace comet {
namespace {

constexpr auto kNow = std::chrono::seconds(0);
constexpr auto kSoon = std::chrono::seconds(15);  // Long enough for a busy machine.
constexpr int kNumTicks = 50;
constexpr int kScribblesMax = 10000;  // 60 kB with their framing, which any socket's buffer holds.
constexpr auto kShort = std::chrono::milliseconds(100);

// A server on a free port whose routes exercise one thing each.
class HttpServerTest : public testing::Test {
 protected:
  void StartServer(HttpConfig config = {}) {
    config.port = 0;
    if (config.num_threads == 0) config.num_threads = 2;  // Connections lie on them in turns.
    AddRoutes();
    Result<std::unique_ptr<HttpServer>> server = HttpServer::Bind(config, router_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(server).value();
    ASSERT_TRUE(server_->Start().ok());
  }

  void AddRoutes() {
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
    router_.Add("POST", "/leave",
                [this](HttpExchange& exchange) { return TellScribbler(exchange); });
    router_.Add("POST", "/flood", [this](HttpExchange& exchange) { return Flood(exchange); });
  }

  static Task<ApiStatus> Hello(HttpExchange& exchange) {
    co_return co_await exchange.Write(JsonResponse("{}"));
  }
  static Task<ApiStatus> Echo(HttpExchange& exchange) {
    co_return co_await exchange.Write(JsonResponse(exchange.request().body));
  }
  static Task<ApiStatus> Path(HttpExchange& exchange) {
    co_return co_await exchange.Write(JsonResponse(exchange.request().path));
  }
  static Task<ApiStatus> Fail() { co_return FieldFault("n", "value is 0, expected at least 1"); }
  static Task<ApiStatus> FailLate(HttpExchange& exchange) {
    exchange.BeginStream(kSseContentType);
    COMET_CO_RETURN_IF_ERROR(co_await exchange.WriteStream(FormatSse("first")));
    co_return Internal("engine: broke");
  }
  Task<ApiStatus> UsePool(HttpExchange& exchange) {
    std::thread::id job_thread;
    std::function<void()> job = [&] { job_thread = std::this_thread::get_id(); };
    COMET_CO_RETURN_IF_ERROR(co_await RunOnPool(exchange, pool_, std::move(job)));
    const bool is_elsewhere = job_thread != std::this_thread::get_id();
    co_return co_await exchange.Write(JsonResponse(is_elsewhere ? "worker" : "i/o thread"));
  }
  // Answers nothing until the client has left.
  Task<ApiStatus> WaitForLeave(HttpExchange& exchange) {
    waker_ = exchange.MakeWaker();
    has_begun_.set_value();
    while (!exchange.is_client_gone()) co_await exchange.Wait();
    has_left_.set_value();
    co_return Cancelled("client left");
  }
  // An event for each of kNumTicks wakes that come from elsewhere, as a step's tokens do.
  Task<ApiStatus> Tick(HttpExchange& exchange) {
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
  // Writes what the socket always takes at once, until the client of /leave was heard.
  Task<ApiStatus> Scribble(HttpExchange& exchange) {
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
  Task<ApiStatus> TellScribbler(HttpExchange& exchange) {
    scribbler_was_told_ = true;
    co_return co_await exchange.Write(JsonResponse("{}"));
  }
  // Writes until that fails.
  Task<ApiStatus> Flood(HttpExchange& exchange) {
    exchange.BeginStream(kSseContentType);
    Status written;
    while (written.ok()) written = co_await exchange.WriteStream(std::string(64 << 10, 'x'));
    flood_end_.set_value(written.code());
    co_return written;
  }

  static std::string Get(std::string_view path) {
    return StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  }
  static std::string Head(std::string_view path, std::string_view headers = "") {
    return StrCat("HEAD ", path, " HTTP/1.1\r\nHost: x\r\n", headers, "\r\n");
  }
  static std::string Post(std::string_view path, std::string_view body,
                          std::string_view headers = "Connection: close\r\n") {
    return StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\n", headers,
                  "Content-Length: ", body.size(), "\r\n\r\n", body);
  }
  std::string Ask(std::string_view request) {
    return RawClient(server_->port()).Send(request).ReadAll();
  }

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
};

int StatusOf(const std::string& answer) {
  return answer.starts_with("HTTP/1.1 ") ? std::stoi(answer.substr(9, 3)) : 0;
}

bool IsHeadOnly(const std::string& answer) {
  const size_t end = answer.find("\r\n\r\n");
  return end != std::string::npos && end + 4 == answer.size();
}

TEST_F(HttpServerTest, AnswersWithBodyAndLength) {
  StartServer();

  const std::string answer = Ask(Post("/echo", "[1]"));

  EXPECT_EQ(StatusOf(answer), 200) << answer;
  EXPECT_NE(answer.find("Content-Length: 3\r\n"), std::string::npos);
  EXPECT_TRUE(answer.ends_with("\r\n\r\n[1]"));
}

TEST_F(HttpServerTest, KeepsAConnectionForFurtherRequests) {
  StartServer();
  RawClient client(server_->port());

  const std::string first = client.Send(Post("/echo", "[1]", "")).ReadUntil("[1]");
  const std::string second = client.Send(Post("/echo", "[2]")).ReadAll();

  EXPECT_EQ(StatusOf(first), 200);
  EXPECT_EQ(first.find("Connection: close"), std::string::npos);
  EXPECT_TRUE(second.ends_with("[2]"));
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  StartServer();

  const std::string answer =
      Ask(Post("/echo", "[1]", "") + Post("/echo", "[2]", "") + Post("/echo", "[3]"));

  const size_t first = answer.find("[1]");
  const size_t second = answer.find("[2]");
  EXPECT_LT(first, second);
  EXPECT_LT(second, answer.find("[3]"));
  EXPECT_TRUE(answer.ends_with("[3]")) << answer;
}

TEST_F(HttpServerTest, ReadsChunkedBodies) {
  StartServer();

  const std::string answer = Ask(
      "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
      "2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n");

  EXPECT_TRUE(answer.ends_with("[1]")) << answer;
}

TEST_F(HttpServerTest, TellsAWaitingClientToSendItsBody) {
  StartServer();
  RawClient client(server_->port());

  const std::string interim =
      client
          .Send(
              "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n"
              "Expect: 100-continue\r\n\r\n")
          .ReadUntil("\r\n\r\n");
  const std::string answer = client.Send("[1]").ReadAll();

  EXPECT_TRUE(interim.starts_with("HTTP/1.1 100 Continue\r\n"));
  EXPECT_TRUE(answer.ends_with("[1]"));
}

TEST_F(HttpServerTest, RefusesUnknownPathsMethodsAndTypes) {
  StartServer();

  EXPECT_EQ(StatusOf(Ask(Get("/nowhere"))), 404);
  EXPECT_EQ(StatusOf(Ask(Get("/items/"))), 404);
  const std::string method = Ask(Get("/echo"));
  EXPECT_EQ(StatusOf(method), 405);
  EXPECT_NE(method.find("Allow: POST\r\n"), std::string::npos);
  EXPECT_EQ(StatusOf(Ask(Post("/echo", "a=1",
                              "Connection: close\r\n"
                              "Content-Type: application/x-www-form-urlencoded\r\n"))),
            415);
  EXPECT_EQ(StatusOf(Ask(Post("/echo", "1",
                              "Connection: close\r\n"
                              "Content-Type: Application/JSON; charset=utf-8\r\n"))),
            200);
}

TEST_F(HttpServerTest, AnswersHeadAsGetWithoutTheBody) {
  StartServer();

  const std::string head = Ask(Head("/health", "Connection: close\r\n"));
  const std::string method = Ask(Post("/health", "{}"));

  EXPECT_EQ(StatusOf(head), 200) << head;
  EXPECT_NE(head.find("Content-Length: 2\r\n"), std::string::npos) << head;
  EXPECT_TRUE(IsHeadOnly(head)) << head;
  EXPECT_NE(method.find("Allow: GET, HEAD\r\n"), std::string::npos) << method;
}

// A stray body would be taken for the beginning of the next answer.
TEST_F(HttpServerTest, KeepsAConnectionAfterEveryAnswerToHead) {
  StartServer();
  struct Case {
    std::string_view path;
    int status;
  };
  // A body, a wildcard, an unknown path, a wrong method, a handler's error, a stream.
  for (const auto& [path, status] :
       {Case{"/health", 200}, Case{"/items/a", 200}, Case{"/nowhere", 404}, Case{"/echo", 405},
        Case{"/fail", 400}, Case{"/late", 200}}) {
    RawClient client(server_->port());

    const std::string head = client.Send(Head(path)).ReadUntil("\r\n\r\n");
    const std::string next = client.Send(Get("/items/b")).ReadAll();

    EXPECT_EQ(StatusOf(head), status) << path << ": " << head;
    EXPECT_TRUE(IsHeadOnly(head)) << path << ": " << head;
    EXPECT_EQ(StatusOf(next), 200) << path << ": " << next;
    EXPECT_TRUE(next.ends_with("\r\n\r\n/items/b")) << path << ": " << next;
  }
}

TEST_F(HttpServerTest, RefusesHeadWithoutABody) {
  StartServer({.body_bytes_max = 1024, .header_bytes_max = 1024, .read_ms_max = 100});
  struct Case {
    std::string request;
    int status;
  };
  for (const auto& [request, status] :
       {Case{Head("/health", "Content-Length: 2000\r\n"), 413},
        Case{Head("/health", "X: " + std::string(4096, 'x') + "\r\n"), 431},
        Case{Head("/health", "Content-Length: 5\r\n"), 408},
        Case{"HEAD /health HTTP/1.1\r\nHost: x\r\n", 408},
        Case{"HEAD /health HTTP/9.9\r\nHost: x\r\n\r\n", 400},
        Case{Head("/health", "no field\r\n"), 400}, Case{Head("/%zz"), 400}}) {
    const std::string answer = Ask(request);

    EXPECT_EQ(StatusOf(answer), status) << request.substr(0, 80) << ": " << answer;
    EXPECT_TRUE(IsHeadOnly(answer)) << request.substr(0, 80) << ": " << answer;
  }
}

TEST_F(HttpServerTest, MatchesLongerPathsByWildcard) {
  StartServer();

  EXPECT_TRUE(Ask(Get("/items/a%2Fb?x=1")).ends_with("/items/a/b"));
}

TEST_F(HttpServerTest, RefusesMalformedHttp) {
  StartServer();

  EXPECT_EQ(StatusOf(Ask("what is this\r\n\r\n")), 400);
  EXPECT_EQ(StatusOf(Ask("GET / HTTP/9.9\r\n\r\n")), 400);
  EXPECT_EQ(StatusOf(Ask("POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n")), 400);
  EXPECT_EQ(StatusOf(Ask("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n")), 400);
}

TEST_F(HttpServerTest, RefusesABodyOverTheLimitBeforeReadingIt) {
  StartServer({.body_bytes_max = 1024});

  const std::string answer = Ask(Post("/echo", std::string(1 << 20, 'x')));

  EXPECT_EQ(StatusOf(answer), 413) << answer;
  EXPECT_NE(answer.find("body_too_large"), std::string::npos);
}

TEST_F(HttpServerTest, RefusesAChunkedBodyOverTheLimit) {
  StartServer({.body_bytes_max = 1024});

  std::string request = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 3; ++i) request += "200\r\n" + std::string(0x200, 'x') + "\r\n";

  EXPECT_EQ(StatusOf(Ask(request + "0\r\n\r\n")), 413);
}

TEST_F(HttpServerTest, RefusesAHeaderOverTheLimit) {
  StartServer({.header_bytes_max = 1024});

  EXPECT_EQ(StatusOf(Ask("GET /health HTTP/1.1\r\nX: " + std::string(4096, 'x') + "\r\n\r\n")),
            431);
}

TEST_F(HttpServerTest, GivesUpOnASlowRequest) {
  StartServer({.read_ms_max = 100});

  const std::string answer = Ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12");

  EXPECT_EQ(StatusOf(answer), 408) << answer;
}

TEST_F(HttpServerTest, ClosesASilentConnection) {
  StartServer({.idle_ms_max = 100});

  EXPECT_EQ(Ask(""), "");
}

TEST_F(HttpServerTest, ReturnsTheClientsRequestIdOrMakesOne) {
  StartServer();

  EXPECT_NE(Ask(Post("/echo", "1", "Connection: close\r\nX-Request-Id: me-1\r\n"))
                .find("X-Request-Id: me-1\r\n"),
            std::string::npos);
  EXPECT_NE(Ask(Get("/health")).find("X-Request-Id: req-"), std::string::npos);
  EXPECT_NE(Ask(Get("/nowhere")).find("X-Request-Id: req-"), std::string::npos);
  const std::string refused = Ask(Post("/echo", "1", "X-Request-Id: a b\r\n"));
  EXPECT_EQ(StatusOf(refused), 400);
  EXPECT_NE(refused.find("\"param\":\"X-Request-Id\""), std::string::npos);
}

TEST_F(HttpServerTest, WritesAHandlersErrorInOpenAisShape) {
  StartServer();

  const std::string answer = Ask(Post("/fail", "{}"));

  EXPECT_EQ(StatusOf(answer), 400);
  EXPECT_NE(
      answer.find(R"({"error":{"message":"n: value is 0, expected at least 1",)"
                  R"("type":"invalid_request_error","param":"n","code":"invalid_argument"}})"),
      std::string::npos);
}

TEST_F(HttpServerTest, WritesALateErrorIntoTheStreamAndEndsIt) {
  StartServer();

  const std::string answer = Ask(Post("/late", "{}"));

  EXPECT_EQ(StatusOf(answer), 200);
  EXPECT_NE(answer.find("data: first\n\n"), std::string::npos);
  EXPECT_NE(answer.find("event: error\ndata: {\"error\":{\"message\":\"engine: broke\""),
            std::string::npos);
  EXPECT_EQ(answer.find("[DONE]"), std::string::npos);
  EXPECT_TRUE(answer.ends_with("\r\n0\r\n\r\n"));
}

TEST_F(HttpServerTest, RunsLongWorkOnTheWorkers) {
  StartServer();

  EXPECT_TRUE(Ask(Post("/pool", "{}")).ends_with("worker"));
}

TEST_F(HttpServerTest, NoticesThatAWaitingClientLeft) {
  StartServer();
  RawClient client(server_->port());
  client.Send(Post("/wait", "{}"));
  ASSERT_EQ(has_begun_.get_future().wait_for(kSoon), std::future_status::ready);

  client.Close();

  EXPECT_EQ(has_left_.get_future().wait_for(kSoon), std::future_status::ready);
  EXPECT_TRUE(server_->WaitDrained(kSoon));
}

TEST_F(HttpServerTest, WakesEveryStreamForEveryTick) {
  StartServer();
  std::jthread ticker([this](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::vector<std::function<void()>> wakers;
      {
        const std::lock_guard lock(ticking_mutex_);
        wakers.swap(ticking_);
      }
      for (const std::function<void()>& wake : wakers) wake();
    }
  });
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 9; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    clients.back()->Send(Post("/tick", "{}"));
  }
  for (const std::unique_ptr<RawClient>& client : clients) {
    const std::string answer = client->ReadAll();
    int num_ticks = 0;
    for (size_t at = 0; (at = answer.find("data: tick", at)) != std::string::npos; ++at) {
      ++num_ticks;
    }
    EXPECT_EQ(num_ticks, kNumTicks);
    EXPECT_TRUE(answer.ends_with("data: end\n\n\r\n0\r\n\r\n")) << answer;
  }
}

TEST_F(HttpServerTest, LetsOthersInBetweenWritesThatNeverWait) {
  StartServer({.num_threads = 1});
  RawClient scribbler(server_->port());
  scribbler.Send(Post("/scribble", "{}"));
  ASSERT_EQ(has_begun_.get_future().wait_for(kSoon), std::future_status::ready);
  RawClient other(server_->port());
  other.Send(Post("/leave", "{}"));

  scribbler_may_write_.set_value();

  EXPECT_TRUE(scribbler.ReadAll().ends_with("\r\ntold\r\n0\r\n\r\n"));
}

TEST_F(HttpServerTest, DropsAClientThatReadsTooSlowly) {
  StartServer({.write_ms_max = 200, .send_buffer_bytes = 16 << 10});
  RawClient client(server_->port(), /*receive_buffer_bytes=*/4096);

  client.Send(Post("/flood", "{}"));

  std::future<StatusCode> end = flood_end_.get_future();
  ASSERT_EQ(end.wait_for(kSoon), std::future_status::ready);
  EXPECT_EQ(end.get(), StatusCode::kDeadlineExceeded);
}

TEST_F(HttpServerTest, AnswersConnectionsBeyondTheLimitWith503) {
  StartServer({.connections_max = 1});
  RawClient first(server_->port());
  first.Send(Post("/echo", "[1]", "")).ReadUntil("[1]");

  const std::string answer = Ask(Get("/health"));

  EXPECT_EQ(StatusOf(answer), 503) << answer;
  EXPECT_NE(answer.find("Retry-After: 1\r\n"), std::string::npos);
  const std::string head = Ask(Head("/health"));
  EXPECT_EQ(StatusOf(head), 503) << head;
  EXPECT_TRUE(IsHeadOnly(head)) << head;
}

TEST_F(HttpServerTest, DrainAnswersOldAndNewConnectionsOnceMore) {
  StartServer();
  RawClient old(server_->port());
  old.Send(Post("/echo", "[1]", "")).ReadUntil("[1]");

  server_->BeginDrain();

  for (const std::string& answer :
       {old.Send(Post("/echo", "[2]", "")).ReadAll(), Ask(Post("/echo", "[2]", ""))}) {
    EXPECT_EQ(StatusOf(answer), 200) << answer;
    EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos);
    EXPECT_TRUE(answer.ends_with("[2]"));
  }
}

TEST_F(HttpServerTest, CloseEndsIdleConnectionsAndTheListener) {
  StartServer();
  RawClient idle(server_->port());
  idle.Send(Post("/echo", "[1]", "")).ReadUntil("[1]");
  const int port = server_->port();
  RawClient silent(port);
  while (server_->num_connections() < 2) std::this_thread::yield();

  server_->BeginDrain();
  server_->Close();

  EXPECT_TRUE(idle.IsAtEnd());
  EXPECT_TRUE(silent.IsAtEnd());
  EXPECT_TRUE(server_->WaitDrained(kSoon));
  EXPECT_FALSE(RawClient(port).is_connected());
}

TEST_F(HttpServerTest, CloseDropsRequestsThatAreHalfSent) {
  StartServer();
  RawClient header(server_->port());
  header.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Le");
  RawClient body(server_->port());
  const std::string request = Post("/echo", std::string(1000, 'x'), "Expect: 100-continue\r\n");
  body.Send(request.substr(0, request.size() - 500));
  // So the body is being read.
  ASSERT_EQ(StatusOf(body.ReadUntil("\r\n\r\n")), 100);
  RawClient second(server_->port());
  second.Send(Post("/echo", "[1]", "")).ReadUntil("[1]");
  second.Send("POST /echo HTTP/1.1\r\n");
  while (server_->num_connections() < 3) std::this_thread::yield();

  server_->BeginDrain();
  server_->Close();

  EXPECT_TRUE(server_->WaitDrained(kSoon));
  for (RawClient* client : {&header, &body, &second}) EXPECT_EQ(client->ReadAll(), "");
}

TEST_F(HttpServerTest, CloseLetsARunningRequestFinish) {
  StartServer();
  RawClient client(server_->port());
  client.Send(Post("/wait", "{}"));
  ASSERT_EQ(has_begun_.get_future().wait_for(kSoon), std::future_status::ready);

  server_->Close();

  EXPECT_FALSE(server_->WaitDrained(kShort));
  client.Close();
  EXPECT_TRUE(server_->WaitDrained(kSoon));
}

TEST_F(HttpServerTest, EndsRunningRequestsWhenDestroyed) {
  StartServer();
  RawClient client(server_->port());
  client.Send(Post("/wait", "{}"));
  ASSERT_EQ(has_begun_.get_future().wait_for(kSoon), std::future_status::ready);

  server_.reset();

  EXPECT_EQ(has_left_.get_future().wait_for(kNow), std::future_status::ready);
}

// As a worker's job does that ends after its request. LeakSanitizer sees what such a wake keeps.
TEST_F(HttpServerTest, AWakerMayBeCalledWhenTheServerIsGone) {
  StartServer();
  RawClient client(server_->port());
  client.Send(Post("/wait", "{}"));
  ASSERT_EQ(has_begun_.get_future().wait_for(kSoon), std::future_status::ready);
  server_.reset();

  waker_();
}

TEST_F(HttpServerTest, TellsHowManyThreadsItHas) {
  const auto num_threads_with = [this](int asked) {
    return (*HttpServer::Bind({.port = 0, .num_threads = asked}, router_))->num_threads();
  };

  EXPECT_EQ(num_threads_with(3), 3);
  EXPECT_GE(num_threads_with(0), 1);
  EXPECT_LE(num_threads_with(0), 8);
}

TEST_F(HttpServerTest, SaysWhichPortIsInUse) {
  StartServer();

  HttpConfig config;
  config.port = server_->port();
  const Status status = HttpServer::Bind(config, router_).status();

  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find(StrCat("127.0.0.1:", config.port)), std::string::npos);
}

TEST_F(HttpServerTest, NeedsAnAddressForItsHost) {
  EXPECT_EQ(HttpServer::Bind({.host = "example"}, router_).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace comet
