#include "server/logging/log.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <string>

namespace comet {
namespace {

TEST(Log, WritesOneJsonObjectALine) {
  const std::string line = FormatLogLine(LogLevel::kInfo, "T", "request_finished",
                                         {{"request_id", "a\"b\nc"}, {"tokens", 5}, {"ok", true}});

  EXPECT_EQ(line, R"({"time":"T","level":"info","event":"request_finished",)"
                  R"("request_id":"a\"b\nc","tokens":5,"ok":true})");
}

TEST(Log, WritesJsonAsItIs) {
  const std::string line =
      FormatLogLine(LogLevel::kInfo, "T", "e",
                    {{"options", nlohmann::ordered_json{{"b", 1}, {"a", {{"text", "\xff"}}}}}});

  EXPECT_EQ(line,
            "{\"time\":\"T\",\"level\":\"info\",\"event\":\"e\","
            "\"options\":{\"b\":1,\"a\":{\"text\":\"\xef\xbf\xbd\"}}}");
}

TEST(Log, WritesInvalidUtf8AsReplacement) {
  const std::string line = FormatLogLine(LogLevel::kWarn, "T", "e", {{"x", "\xff"}});

  EXPECT_EQ(nlohmann::json::parse(line)["x"], "\xef\xbf\xbd");
}

TEST(Log, LeavesOutWhatJsonCannotSay) {
  const std::string line = FormatLogLine(
      LogLevel::kError, "T", "e", {{"x", std::numeric_limits<double>::infinity()}, {"y", 0.5}});

  EXPECT_EQ(nlohmann::json::parse(line),
            (nlohmann::json{{"time", "T"}, {"level", "error"}, {"event", "e"}, {"y", 0.5}}));
}

TEST(Log, ParsesItsLevels) {
  EXPECT_EQ(*ParseLogLevel("warn"), LogLevel::kWarn);
  EXPECT_EQ(ParseLogLevel("loud").status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace comet
