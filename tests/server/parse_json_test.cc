#include "server/json/parse_json.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "tests/engine/test_data.h"

namespace comet {
namespace {

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

TEST(ParseJson, AnswersEveryFileOfTheConformanceSuite) {
  const std::string folder = TestDataPath("json/JSONTestSuite/test_parsing");
  COMET_REQUIRE_FILE(folder);
  int num_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();

    const Result<nlohmann::json> parsed = ParseJson(ReadFile(entry.path()));

    // Either answer is right for the rest.
    if (name.starts_with("y_") || name.starts_with("n_")) {
      EXPECT_EQ(parsed.ok(), name.starts_with("y_")) << name << ": " << parsed.status();
    }
    ++num_files;
  }
  EXPECT_GE(num_files, 300);
}

TEST(ParseJson, KeepsValues) {
  const Result<nlohmann::json> parsed =
      ParseJson(R"({"a": [1, -2, 2.5, true, null, "\u00e9"], "b": {"c": 18446744073709551615}})");

  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->at("a"), (nlohmann::json{1, -2, 2.5, true, nullptr, "é"}));
  EXPECT_EQ(parsed->at("b").at("c").get<uint64_t>(), 18446744073709551615u);
}

TEST(ParseJson, TakesTheLastOfEqualKeys) {
  const Result<nlohmann::json> parsed = ParseJson(R"({"a": [1], "a": 2})");

  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(*parsed, (nlohmann::json{{"a", 2}}));
}

TEST(ParseJson, AcceptsTheDeepestAllowedNesting) {
  EXPECT_TRUE(ParseJson(std::string(64, '[') + std::string(64, ']')).ok());
}

TEST(ParseJson, RefusesDeeperNestingByName) {
  const Result<nlohmann::json> parsed = ParseJson(std::string(65, '[') + std::string(65, ']'));

  EXPECT_EQ(parsed.status(), InvalidArgument("body: JSON is nested deeper than 64 levels"));
}

TEST(ParseJson, SurvivesAHundredThousandLevels) {
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";

  EXPECT_EQ(ParseJson(std::string(100000, '[')).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseJson(objects).status().code(), StatusCode::kInvalidArgument);
}

TEST(ParseJson, RefusesMoreValuesThanAllowed) {
  EXPECT_TRUE(ParseJson("[1,2,3]", {.values_max = 4}).ok());
  EXPECT_EQ(ParseJson("[1,2,3,4]", {.values_max = 4}).status(),
            InvalidArgument("body: JSON has more than 4 values"));
}

TEST(ParseJson, RefusesInvalidUtf8) {
  EXPECT_EQ(ParseJson("{\"a\": \"\xff\"}").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseJson("{\"a\": \"\xed\xa0\x80\"}").status().code(), StatusCode::kInvalidArgument);
}

TEST(ParseJson, RefusesNulBytesAndNumbersBeyondDouble) {
  EXPECT_FALSE(ParseJson(std::string_view("1\0", 2)).ok());
  EXPECT_EQ(ParseJson("[1e999]").status(),
            InvalidArgument("body: number is out of range at byte 6"));
}

TEST(ParseJson, NeverQuotesTheBodyInItsMessage) {
  const Status status = ParseJson(R"({"prompt": "secret words" oops)").status();

  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.message().find("secret"), std::string::npos);
  EXPECT_EQ(status.message().find("oops"), std::string::npos);
}

}  // namespace
}  // namespace comet
