// Clients that leave, and a server that drains and closes.
#include <gtest/gtest.h>

#include <future>
#include <string>
#include <thread>

#include "tests/server/http_server_fixture.h"

namespace comet {
namespace {

constexpr auto kNow = std::chrono::seconds(0);
constexpr auto kShort = std::chrono::milliseconds(100);

TEST_F(HttpServerTest, NoticesThatAWaitingClientLeft) {
  StartServer();
  RawClient client(server_->port());
  client.Send(Post("/wait", "{}"));
  ASSERT_EQ(has_begun_.get_future().wait_for(kSoon), std::future_status::ready);

  client.Close();

  EXPECT_EQ(has_left_.get_future().wait_for(kSoon), std::future_status::ready);
  EXPECT_TRUE(server_->WaitDrained(kSoon));
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

}  // namespace
}  // namespace comet
