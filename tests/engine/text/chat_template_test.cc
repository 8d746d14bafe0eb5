#include "engine/chat_template/chat_template.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace comet {
namespace {

using nlohmann::ordered_json;

Result<std::string> Render(const std::string& source, const ordered_json& values = {}) {
  COMET_ASSIGN_OR_RETURN(const auto parsed, ChatTemplate::Parse(source));
  return parsed->Render(values.is_null() ? ordered_json::object() : values);
}

std::string ParseError(const std::string& source) {
  return std::string(ChatTemplate::Parse(source).status().message());
}

TEST(ChatTemplate, RendersTwiceFromOneParse) {
  const auto parsed = ChatTemplate::Parse(
      "{% set ns = namespace(n=0) %}{% for m in messages %}"
      "{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const ordered_json values = {{"messages", {1, 2, 3}}};

  EXPECT_EQ((*parsed)->Render(values).value(), "3");
  EXPECT_EQ((*parsed)->Render(values).value(), "3");
}

TEST(ChatTemplate, KeepsTheOrderOfKeys) {
  const ordered_json values = {{"tool", {{"z", 1}, {"a", {true, nullptr, 2.5, "x"}}}}};

  EXPECT_EQ(Render("{{ tool | tojson }}", values).value(),
            R"({"z": 1, "a": [true, null, 2.5, "x"]})");
}

TEST(ChatTemplate, AppendsToLists) {
  EXPECT_EQ(Render("{% set l = [] %}{% for i in range(3) %}{% set _ = l.append(i) %}{% endfor %}"
                   "{{ l }}")
                .value(),
            "[0, 1, 2]");
}

TEST(ChatTemplate, MacrosSeeTheScopeOfTheirDefinition) {
  EXPECT_EQ(
      Render("{% set ns = namespace() %}{% for i in [7] %}{% macro m() %}{{ i }}{% endmacro %}"
             "{% set ns.m = m %}{% endfor %}{{ ns.m() }}")
          .value(),
      "7");
}

TEST(ChatTemplate, PassesOnTheTemplatesOwnMessage) {
  const Status status = Render("{{ raise_exception('roles must alternate') }}").status();

  EXPECT_EQ(status, InvalidArgument("roles must alternate"));
}

TEST(ChatTemplate, ErrorsOfRenderingNameTheLine) {
  EXPECT_EQ(Render("a\n{% if 1 %}\n{{ tools.x }}{% endif %}").status(),
            InvalidArgument("chat template: line 3: 'tools' is undefined"));
}

TEST(ChatTemplate, ErrorsOfParsingNameLineAndColumn) {
  EXPECT_EQ(ParseError("abc\n  {{ 1 + }}"),
            "chat template: line 2, column 10: unexpected '}}', expected an expression");
  EXPECT_EQ(ParseError("{% if x %}\n"),
            "chat template: line 1, column 11: unexpected the end of the template, expected {% "
            "endif %}");
  EXPECT_EQ(ParseError("\u00E9\u00E9{{ 'x }}"),
            "chat template: line 1, column 6: the string is not closed");
  EXPECT_EQ(ParseError("{% for x in y %}{% endif %}"),
            "chat template: line 1, column 20: unexpected tag 'endif'");
}

TEST(ChatTemplate, NamesJinjaThatIsLeftOut) {
  const char* const kSources[] = {"{% include 'a' %}",
                                  "{% call m() %}{% endcall %}",
                                  "{{ x | xmlattr }}",
                                  "{{ x is escaped }}",
                                  "{% for a in b recursive %}{% endfor %}",
                                  "{{ f(*x) }}"};
  for (const char* source : kSources) {
    const Status status = ChatTemplate::Parse(source).status();
    EXPECT_EQ(status.code(), StatusCode::kUnimplemented) << source;
    EXPECT_NE(status.message().find("line 1, column "), std::string::npos) << status;
  }
}

TEST(ChatTemplate, RefusesATemplateThatIsNotUtf8) {
  EXPECT_EQ(ChatTemplate::Parse("a\xFF").status().code(), StatusCode::kInvalidArgument);
}

TEST(ChatTemplate, RefusesValuesThatAreNoObject) {
  EXPECT_EQ(Render("a", ordered_json::array({1})).status().code(), StatusCode::kInvalidArgument);
}

TEST(ChatTemplate, SeesNothingOfTheSystem) {
  for (const char* source : {"{{ ''.__class__ }}", "{{ self }}", "{{ cycler }}", "{{ environ }}"}) {
    EXPECT_EQ(Render(source).value(), "") << source;
  }
}

TEST(ChatTemplate, CutsBrokenCharactersOfValuesByBytes) {
  const ordered_json values = {{"x", std::string("a\xFF\xC3") + "b"}};

  EXPECT_EQ(Render("{{ x | length }}", values).value(), "4");
  EXPECT_EQ(Render("{{ x[3] }}", values).value(), "b");
}

}  // namespace
}  // namespace comet
