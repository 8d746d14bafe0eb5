#include "engine/tokenizer/utf8.h"

#include <gtest/gtest.h>

namespace comet {
namespace {

TEST(Utf8, RoundTripsEveryCodePoint) {
  for (uint32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
    std::string bytes;
    AppendUtf8(code_point, bytes);

    const Utf8Char read = ReadUtf8Char(bytes);

    ASSERT_EQ(read.state, Utf8State::kValid);
    ASSERT_EQ(read.code_point, code_point);
    ASSERT_EQ(read.num_bytes, static_cast<int>(bytes.size()));
  }
}

TEST(Utf8, RejectsOverlongSurrogateAndTooLarge) {
  for (const char* bytes :
       {"\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\x80", "\xFF"}) {
    const Utf8Char read = ReadUtf8Char(bytes);

    EXPECT_EQ(read.state, Utf8State::kInvalid);
    EXPECT_EQ(read.num_bytes, 1);
  }
}

TEST(Utf8, TellsTruncatedFromInvalid) {
  EXPECT_EQ(ReadUtf8Char("\xF0\x9F\x98").state, Utf8State::kTruncated);
  EXPECT_EQ(ReadUtf8Char("\xF0\x9F\x98x").state, Utf8State::kInvalid);
  EXPECT_EQ(ReadUtf8Char("\xF0\x9F\x98x").num_bytes, 3);
}

}  // namespace
}  // namespace comet
