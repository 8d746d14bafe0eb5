#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/chat_template/chat_template.h"

namespace comet {
namespace {

using nlohmann::ordered_json;

std::string Repeat(const std::string& text, int count) {
  std::string repeated;
  for (int i = 0; i < count; ++i) repeated += text;
  return repeated;
}

Status RenderStatus(const std::string& source,
                    const ordered_json& values = ordered_json::object()) {
  const auto parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return (*parsed)->Render(values).status();
}

// Templates that would run or grow without end.
class ChatTemplateBombs : public testing::TestWithParam<const char*> {};

TEST_P(ChatTemplateBombs, AreStopped) {
  const auto begin = std::chrono::steady_clock::now();

  const Status status = RenderStatus(GetParam());

  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  const auto elapsed = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(elapsed, std::chrono::seconds(30));
}

INSTANTIATE_TEST_SUITE_P(
    All, ChatTemplateBombs,
    testing::Values(
        "{{ 'a' * 1000000000 }}", "{{ 1000000000 * 'a' }}", "{{ ([1] * 1000000000) | length }}",
        "{{ range(1000000000) | length }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}abcdefghij{% endfor %}{% endfor %}",
        "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
        "{{ ('a' * 1000000).replace('', 'b' * 1000) }}",
        "{{ ('a' * 1000000) | list | join('b' * 1000) }}",
        "{{ (('a\n' * 100000) | indent(100000)) | length }}", "{{ 'a' | indent(1000000000) }}",
        "{{ [[1]] | tojson(indent=1000000000) }}", "{{ ('{0}' * 1000).format('a' * 1000000) }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}"
        "{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}"
        "{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
        "{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}"
        "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}"
        "{{ ns.x == ns.y }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}"
        "{% endfor %}",
        "{% set l = [] %}{% for i in range(9999) %}{% set _ = l.append(('a' * 1000000) ~ i) %}"
        "{% endfor %}",
        "{% set l = [1] %}{% for i in l %}{% set _ = l.append(i) %}{% endfor %}",
        "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}",
        "{% set l = [] %}{% set m = [l] %}{% set _ = l.append(m) %}{{ l == m }}{{ l | tojson }}",
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(f) %}{{ f(f) }}{% endmacro %}{{ m(m) }}",
        "{% set big = 'k' * 10000000 %}{% set d = {big: 1} %}{% for i in range(99999) %}"
        "{{ d[big] }}{{ d.get(big) }}{{ big in d }}{% endfor %}",
        "{% set big = 'k' * 10000000 %}{% for i in range(99999) %}{{ i[big] }}{% endfor %}",
        "{% set a = 'k' * 10000000 %}{% set b = 'k' * 10000000 %}{% for i in range(99999) %}"
        "{{ a == b }}{{ a < b }}{{ 'z' in a }}{{ a.find('z') }}{{ a | length }}{% endfor %}",
        "{{ ('a' * 8000000).find('a' * 4000000 ~ 'b') }}{% for i in range(99999) %}"
        "{{ ('a' * 8000000).rfind('b' ~ 'a' * 4000000) }}{% endfor %}",
        "{% set l = range(100000) | list %}{% for i in l %}{{ i in l }}{{ l | unique | list }}"
        "{% endfor %}",
        "{% for i in range(99999) %}{{ (range(99999) | map('string') | list | sort)[0] }}"
        "{% endfor %}",
        "{{ (',' * 16000000).split(',') | length }}", "{{ ('a' * 16000000) | list | length }}",
        "{{ ('1_' * 4000000 ~ '1') | int }}{% for i in range(99999) %}"
        "{{ ('1_' * 4000000 ~ '1') | int }}{% endfor %}",
        "{{ strftime_now('%c' * 1000) }}"));

TEST(ChatTemplateLimits, IntegersBeyond64BitsAreRefused) {
  for (const char* source :
       {"{{ 9223372036854775807 | round(-1) }}", "{{ (-9223372036854775807) | round(-4) }}",
        "{{ 9223372036854775807 + 1 }}", "{{ 2 ** 63 }}"}) {
    const Status status = RenderStatus(source);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << source << ": " << status;
    EXPECT_NE(status.message().find("64-bit integer"), std::string::npos) << status;
  }
}

// Sources whose nesting would overflow the parser's stack.
TEST(ChatTemplateLimits, DeepSourcesAreRefused) {
  constexpr int kDeep = 100'000;
  const std::string sources[] = {
      "{{ " + Repeat("(", kDeep) + "1" + Repeat(")", kDeep) + " }}",
      "{{ " + Repeat("[", kDeep) + Repeat("]", kDeep) + " }}",
      "{{ " + Repeat("{'a':", kDeep) + "1" + Repeat("}", kDeep) + " }}",
      "{{ " + Repeat("not ", kDeep) + "1 }}",
      "{{ " + Repeat("-", kDeep) + "1 }}",
      "{{ " + Repeat("1 if 1 else ", kDeep) + "1 }}",
      "{{ x" + Repeat("[x", kDeep) + Repeat("]", kDeep) + " }}",
      "{{ x" + Repeat("|trim", kDeep) + " }}",
      "{{ x" + Repeat(".x", kDeep) + " }}",
      "{{ x" + Repeat("()", kDeep) + " }}",
      "{{ " + Repeat("f(", kDeep) + Repeat(")", kDeep) + " }}",
      Repeat("{% if 1 %}", kDeep) + Repeat("{% endif %}", kDeep),
      Repeat("{% for i in [1] %}", kDeep),
      Repeat("{% macro m() %}", kDeep),
      Repeat("{% filter trim %}", kDeep),
  };
  for (const std::string& source : sources) {
    const Status status = ChatTemplate::Parse(source).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << source.substr(0, 40);
  }
}

TEST(ChatTemplateLimits, LongFlatSourcesAreFine) {
  constexpr int kLong = 100'000;
  for (const std::string& source :
       {"{{ 1" + Repeat(" + 1", kLong) + " }}", "{{ 1" + Repeat(" ~ 1", kLong) + " }}",
        "{{ 1" + Repeat(" and 1", kLong) + " }}", "{{ 1" + Repeat(" < 2 > 1", kLong) + " }}",
        "{% if 0 %}" + Repeat("{% elif 0 %}", kLong) + "{% endif %}",
        "{{ [" + Repeat("1,", kLong) + "] | length }}", Repeat("{# c #}a", kLong)}) {
    EXPECT_EQ(RenderStatus(source), Status::Ok()) << source.substr(0, 40);
  }
}

TEST(ChatTemplateLimits, DeepValuesAreRefused) {
  ordered_json deep = 1;
  for (int i = 0; i < 100; ++i) deep = ordered_json::array({std::move(deep)});

  EXPECT_EQ(RenderStatus("a", {{"deep", deep}}).code(), StatusCode::kResourceExhausted);
}

TEST(ChatTemplateLimits, LargeConversationsFit) {
  ordered_json messages = ordered_json::array();
  for (int i = 0; i < 5000; ++i) {
    messages.push_back(
        {{"role", i % 2 ? "assistant" : "user"}, {"content", std::string(1000, 'x')}});
  }

  EXPECT_EQ(
      RenderStatus("{% for m in messages %}{% if m.role == 'user' %}{{ '<u>' + m['content'] | "
                   "trim + '</u>' }}{% else %}{{ m.content }}{% endif %}{% endfor %}",
                   {{"messages", messages}}),
      Status::Ok());
}

TEST(ChatTemplateLimits, AreOptions) {
  const ordered_json values = {{"x", std::string(100, 'x')}};
  const auto render = [&](ChatTemplateLimits limits) {
    return (*ChatTemplate::Parse("{{ x }}{{ x }}{{ x }}", limits))->Render(values).status().code();
  };

  EXPECT_EQ(render({}), StatusCode::kOk);
  EXPECT_EQ(render({.steps_max = 5}), StatusCode::kResourceExhausted);
  EXPECT_EQ(render({.output_bytes_max = 299}), StatusCode::kResourceExhausted);
  EXPECT_EQ(render({.value_bytes_max = 100}), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace comet
