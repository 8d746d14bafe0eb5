#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/chat_template/chat_template.h"
#include "tests/engine/text/test_data.h"

namespace comet {
namespace {

using nlohmann::ordered_json;

constexpr char kRenderedCases[] = "templates/rendered_cases.json";
constexpr char kConversationCases[] = "templates/llamacpp_test_chat_template.json";
constexpr char kSmolLm3[] = "smollm3.jinja";

std::string OwnFile(const std::string& name) {
  return std::string(std::getenv("COMET_SOURCE_DIR")) + "/tests/engine/text/" + name;
}

// Noon of 26 July 2024, UTC: the day is the same in every usual time zone.
std::time_t FixedTime() { return 1721995200; }

Result<std::string> Render(const std::string& source, const ordered_json& values) {
  COMET_ASSIGN_OR_RETURN(const auto parsed, ChatTemplate::Parse(source, {}, FixedTime));
  return parsed->Render(values);
}

void ExpectRendered(const Result<std::string>& rendered, const std::string& expected) {
  ASSERT_TRUE(rendered.ok()) << rendered.status();
  EXPECT_EQ(*rendered, expected);
}

// The reference removed indentation and newlines of these files first, as their README says.
std::string ReadTemplate(const std::string& name) {
  std::string text = ReadTestFile(TestDataPath("templates/" + name));
  if (!name.starts_with("chat_templates/")) return text;
  for (const std::string removed : {"\r", "    ", "\n"}) {
    for (size_t pos = text.find(removed); pos != std::string::npos; pos = text.find(removed, pos)) {
      text.erase(pos, removed.size());
    }
  }
  return text;
}

TEST(ChatTemplateCases, PublishedTemplatesRenderAsJinja2) {
  COMET_NEED_TEST_DATA(kRenderedCases);
  const auto file = ordered_json::parse(ReadTestFile(TestDataPath(kRenderedCases)));
  const auto smollm3 = ordered_json::parse(ReadTestFile(OwnFile("smollm3_rendered.json")));

  for (const ordered_json& test_case : file["cases"]) {
    const std::string name = test_case["template"];
    const std::string scenario = test_case["scenario"];
    SCOPED_TRACE(name + " " + scenario);
    ordered_json values = {{"add_generation_prompt", true}, {"tools", nullptr}};
    values.update(file["scenarios"][scenario]);
    values["bos_token"] = test_case["bos_token"];
    values["eos_token"] = test_case["eos_token"];
    values["date_string"] = "26 Jul 2024";

    const Result<std::string> rendered = Render(ReadTemplate(name), values);

    if (name == kSmolLm3) {
      // The reference knew no generation tag, so these were rendered with one.
      ExpectRendered(rendered, smollm3[scenario]);
    } else if (test_case.contains("rendered")) {
      ExpectRendered(rendered, test_case["rendered"]);
    } else {
      const std::string error = test_case["error"];
      const std::string message = error.substr(error.find(": ") + 2);
      EXPECT_EQ(rendered.status().code(), StatusCode::kInvalidArgument);
      EXPECT_TRUE(rendered.status().message().ends_with(message)) << rendered.status();
    }
  }
}

TEST(ChatTemplateCases, ConversationsRenderAsJinja2) {
  COMET_NEED_TEST_DATA(kConversationCases);
  const auto file = ordered_json::parse(ReadTestFile(TestDataPath(kConversationCases)));

  for (const ordered_json& test_case : file["cases"]) {
    SCOPED_TRACE(test_case["name"].get<std::string>());
    const ordered_json values = {{"messages", file["conversation"]},
                                 {"add_generation_prompt", true},
                                 {"bos_token", test_case["bos_token"]},
                                 {"eos_token", test_case["eos_token"]}};

    const Result<std::string> rendered = Render(test_case["template"], values);

    if (test_case.contains("jinja2_rendered")) {
      ExpectRendered(rendered, test_case["jinja2_rendered"]);
    } else {
      EXPECT_EQ(rendered.status().code(), StatusCode::kInvalidArgument);
    }
  }
}

// Some 200 small templates, one for each rule of the language.
TEST(ChatTemplateCases, LanguageRulesAreJinja2s) {
  const auto file = ordered_json::parse(ReadTestFile(OwnFile("jinja_semantics.json")));

  for (const ordered_json& test_case : file["cases"]) {
    const std::string source = test_case["template"];
    SCOPED_TRACE(source);

    const Result<std::string> rendered = Render(source, ordered_json::object());

    if (test_case.contains("rendered")) {
      ExpectRendered(rendered, test_case["rendered"]);
    } else {
      EXPECT_FALSE(rendered.ok());
    }
  }
}

}  // namespace
}  // namespace comet
