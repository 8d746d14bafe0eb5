#include "server/http/http_message.h"

#include <gtest/gtest.h>

#include <string>

#include "server/http/sse.h"

namespace comet {
namespace {

TEST(Sse, EndsAnEventWithAnEmptyLine) { EXPECT_EQ(FormatSse("{\"a\":1}"), "data: {\"a\":1}\n\n"); }

TEST(Sse, NamesAnEvent) { EXPECT_EQ(FormatSse("x", "error"), "event: error\ndata: x\n\n"); }

TEST(Sse, StartsADataLineForEveryLineEnd) {
  EXPECT_EQ(FormatSse("a\nb\r\nc\rd"), "data: a\ndata: b\ndata: c\ndata: d\n\n");
}

TEST(Sse, CannotBeSplitByData) {
  EXPECT_EQ(FormatSse("a\n\nevent: x"), "data: a\ndata: \ndata: event: x\n\n");
}

TEST(Chunk, WritesItsSizeInHex) {
  std::string out = "before";
  AppendChunk(out, "abc");
  EXPECT_EQ(out, "before3\r\nabc\r\n");
  out.clear();
  AppendChunk(out, std::string(300, 'x'));
  EXPECT_EQ(out.substr(0, 5), "12c\r\n");
}

TEST(Head, StatesLengthIdAndClose) {
  const std::vector<HttpHeader> headers = {{"Allow", "GET"}};
  const std::string head = FormatHead({.status = 405,
                                       .content_type = "application/json",
                                       .request_id = "abc",
                                       .content_bytes = 12,
                                       .keeps_alive = false,
                                       .headers = &headers});

  EXPECT_TRUE(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\nDate: ")) << head;
  EXPECT_NE(head.find("\r\nContent-Length: 12\r\n"), std::string::npos);
  EXPECT_NE(head.find("\r\nX-Request-Id: abc\r\n"), std::string::npos);
  EXPECT_NE(head.find("\r\nConnection: close\r\n"), std::string::npos);
  EXPECT_NE(head.find("\r\nAllow: GET\r\n"), std::string::npos);
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
}

TEST(Head, ChunksWhatHasNoLengthExceptForHttp10) {
  const std::string modern = FormatHead({.content_type = "text/event-stream", .content_bytes = -1});
  const std::string old =
      FormatHead({.content_type = "text/event-stream", .content_bytes = -1, .is_http10 = true});

  EXPECT_NE(modern.find("Transfer-Encoding: chunked"), std::string::npos);
  EXPECT_EQ(modern.find("Content-Length"), std::string::npos);
  EXPECT_EQ(old.find("Transfer-Encoding"), std::string::npos);
}

TEST(PercentDecode, DecodesEscapes) {
  std::string out;

  EXPECT_TRUE(PercentDecode("/v1/models/a%2Fb%20c", out));
  EXPECT_EQ(out, "/v1/models/a/b c");
}

TEST(PercentDecode, RefusesMalformedEscapesAndNul) {
  std::string out;

  for (const char* text : {"%", "%4", "%zz", "a%2", "%00"}) {
    EXPECT_FALSE(PercentDecode(text, out)) << text;
  }
}

TEST(RequestId, AllowsOnlyPlainNames) {
  EXPECT_TRUE(IsRequestId("req-1:a.b_C"));
  EXPECT_TRUE(IsRequestId(std::string(128, 'a')));
  EXPECT_FALSE(IsRequestId(""));
  EXPECT_FALSE(IsRequestId(std::string(129, 'a')));
  EXPECT_FALSE(IsRequestId("a\r\nSet-Cookie: x"));
  EXPECT_FALSE(IsRequestId("a b"));
  EXPECT_FALSE(IsRequestId("\xc3\xa9"));
}

}  // namespace
}  // namespace comet
