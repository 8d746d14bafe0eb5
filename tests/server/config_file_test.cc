#include "server/json/config_file.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace comet {
namespace {

// One option of each kind, and a section of its own.
struct Options {
  int count = 1;
  int64_t size_bytes = 2;
  double share = 0.5;
  bool is_on = false;
  std::string name = "default";
};

Status Parse(std::string_view text, Options& options) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json parsed, ParseConfigText("test.json", text));
  return ConfigSection(parsed, "engine")
      .Read("count", options.count)
      .Read("size_bytes", options.size_bytes)
      .Read("share", options.share)
      .Read("is_on", options.is_on)
      .Read("name", options.name)
      .Skip("section")
      .Finish();
}

std::string FaultsOf(std::string_view text) {
  Options options;
  const Status status = Parse(text, options);
  return status.ok() ? "" : status.message();
}

TEST(ConfigSection, ReadsFieldsAndKeepsTheOthers) {
  Options options;

  const Status status = Parse(R"({
    // Of something.
    "count": 7, "size_bytes": 8589934592, "is_on": true,  /* all of it */
    "section": {"somebody": "else's"}
  })",
                              options);

  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(options.count, 7);
  EXPECT_EQ(options.size_bytes, int64_t{8589934592});
  EXPECT_EQ(options.share, 0.5);
  EXPECT_TRUE(options.is_on);
  EXPECT_EQ(options.name, "default");
}

TEST(ConfigSection, NamesThePathOfAnUnknownKey) {
  EXPECT_EQ(FaultsOf(R"({"counts": 1, "on": 2})"),
            "engine.counts is not an option\nengine.on is not an option");
}

TEST(ConfigSection, NamesThePathOfAWrongType) {
  EXPECT_EQ(FaultsOf(R"({"count": "7"})"), "engine.count is a JSON string, expected an integer");
  EXPECT_EQ(FaultsOf(R"({"count": 1.5})"), "engine.count is a JSON number, expected an integer");
  EXPECT_EQ(FaultsOf(R"({"count": true})"), "engine.count is a JSON boolean, expected an integer");
  EXPECT_EQ(FaultsOf(R"({"share": null})"), "engine.share is a JSON null, expected a number");
  EXPECT_EQ(FaultsOf(R"({"is_on": 1})"), "engine.is_on is a JSON number, expected true or false");
  EXPECT_EQ(FaultsOf(R"({"name": {}})"), "engine.name is a JSON object, expected a string");
}

TEST(ConfigSection, RefusesWhatIsNoObject) {
  Options options;

  const Status status =
      ConfigSection(nlohmann::json::array(), "engine").Read("count", options.count).Finish();

  EXPECT_EQ(status.message(), "engine is a JSON array, expected an object");
}

TEST(ConfigSection, RefusesNumbersBeyondTheType) {
  EXPECT_EQ(FaultsOf(R"({"count": 4294967296})"),
            "engine.count is 4294967296, expected -2147483648 to 2147483647");
  EXPECT_EQ(FaultsOf(R"({"size_bytes": 18446744073709551615})"),
            "engine.size_bytes is 18446744073709551615, expected at most 9223372036854775807");
}

TEST(ConfigText, SaysWhereItIsNotJson) {
  const Status status = ParseConfigText("test.json", "{\n\"a\": }").status();

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("test.json"), std::string::npos);
  EXPECT_NE(status.message().find("line 2"), std::string::npos) << status;
}

TEST(ConfigText, RefusesATextThatIsNoObject) {
  EXPECT_EQ(ParseConfigText("test.json", "[1]").status().message(),
            "test.json: the file is a JSON array, expected an object");
}

}  // namespace
}  // namespace comet
