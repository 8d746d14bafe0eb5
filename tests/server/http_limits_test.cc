// What the server refuses, and whom it drops.
#include <gtest/gtest.h>

#include <future>
#include <string>
#include <string_view>

#include "tests/server/http_server_fixture.h"

namespace comet {
namespace {

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

}  // namespace
}  // namespace comet
