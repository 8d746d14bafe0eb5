// What the server answers, and what its threads do meanwhile.
#include "server/http/http_server.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "kernels/base/str_cat.h"
#include "tests/server/http_server_fixture.h"

namespace comet {
namespace {

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

TEST_F(HttpServerTest, MatchesLongerPathsByWildcard) {
  StartServer();

  EXPECT_TRUE(Ask(Get("/items/a%2Fb?x=1")).ends_with("/items/a/b"));
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
