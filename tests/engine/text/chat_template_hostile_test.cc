#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/chat_template/chat_template.h"
#include "tests/engine/text/test_data.h"

namespace comet {
namespace {

using nlohmann::ordered_json;

// What a mutation inserts: pieces of the language that fit together often enough to parse.
constexpr const char* kPieces[] = {"{{",
                                   "}}",
                                   "{%",
                                   "%}",
                                   "{#",
                                   "#}",
                                   "-",
                                   "+",
                                   "(",
                                   ")",
                                   "[",
                                   "]",
                                   "{",
                                   "}",
                                   "|",
                                   ".",
                                   ",",
                                   ":",
                                   "'",
                                   "\"",
                                   "\\",
                                   "\n",
                                   " ",
                                   "=",
                                   "==",
                                   "~",
                                   "**",
                                   "//",
                                   " if ",
                                   " else ",
                                   " for ",
                                   " in ",
                                   " not ",
                                   " is ",
                                   " and ",
                                   " set ",
                                   " endif ",
                                   " endfor ",
                                   " macro ",
                                   " loop ",
                                   " none ",
                                   " raw ",
                                   "endraw",
                                   "messages",
                                   "message",
                                   "namespace(",
                                   "range(9",
                                   "|tojson",
                                   "|items",
                                   "|list",
                                   "|length",
                                   "|sort",
                                   "|map('",
                                   "[::-1]",
                                   "[1:",
                                   ".split(",
                                   "|replace(",
                                   ".append(",
                                   "|join(",
                                   "0",
                                   "9999999999",
                                   "1e308",
                                   "\xC3\xA9",
                                   "content",
                                   "defined",
                                   "tools",
                                   "|selectattr(",
                                   "{% endfor %}",
                                   "{% endif %}",
                                   "*"};

std::string Mutate(std::string source, std::mt19937& random) {
  for (int n = 1 + static_cast<int>(random() % 6); n > 0; --n) {
    const size_t pos = random() % (source.size() + 1);
    const size_t num_bytes = random() % 12;
    switch (random() % 4) {
      case 0: source.insert(pos, kPieces[random() % std::size(kPieces)]); break;
      case 1: source.erase(pos, num_bytes); break;
      case 2: source.replace(pos, num_bytes, kPieces[random() % std::size(kPieces)]); break;
      default: source.insert(pos, source.substr(random() % (source.size() + 1), random() % 60));
    }
  }
  return source;
}

ordered_json Conversation() {
  const ordered_json call = {
      {"id", "call12345"},
      {"type", "function"},
      {"function", {{"name", "get"}, {"arguments", {{"a", 1}, {"b", {true, nullptr}}}}}}};
  return {{"messages",
           {{{"role", "system"}, {"content", "Be brief."}},
            {{"role", "user"}, {"content", "  Gr\u00FC\u00DFe \U0001F30D\n"}},
            {{"role", "assistant"}, {"content", ""}, {"tool_calls", {call}}},
            {{"role", "tool"}, {"content", "{}"}, {"name", "get"}}}},
          {"tools",
           {{{"type", "function"},
             {"function", {{"name", "get"}, {"parameters", {{"type", "object"}}}}}}}},
          {"add_generation_prompt", true},
          {"bos_token", "<s>"},
          {"eos_token", "</s>"}};
}

// Parses and renders under limits that make a run away cheap; any status will do.
void Survive(const std::string& source, const ordered_json& values) {
  const ChatTemplateLimits limits = {
      .steps_max = 20'000, .output_bytes_max = 1 << 20, .value_bytes_max = 16 << 20};
  const auto parsed = ChatTemplate::Parse(source, limits);
  if (!parsed.ok()) {
    EXPECT_FALSE(parsed.status().message().empty());
    return;
  }
  const Result<std::string> rendered = (*parsed)->Render(values);
  if (rendered.ok()) {
    EXPECT_LE(rendered->size(), size_t{1} << 20);
  }
}

TEST(ChatTemplateHostile, SurvivesMutatedTemplates) {
  COMET_NEED_TEST_DATA("templates/llama.cpp");
  const ordered_json values = Conversation();
  std::mt19937 random(23);
  std::vector<std::string> sources;
  for (const auto& entry :
       std::filesystem::directory_iterator(TestDataPath("templates/llama.cpp"))) {
    if (entry.path().extension() == ".jinja") sources.push_back(ReadTestFile(entry.path()));
  }
  std::sort(sources.begin(), sources.end());
  ASSERT_FALSE(sources.empty());

  for (int i = 0; i < 6000; ++i) Survive(Mutate(sources[i % sources.size()], random), values);
}

TEST(ChatTemplateHostile, SurvivesMutatedLanguageRules) {
  const std::string path =
      std::string(std::getenv("COMET_SOURCE_DIR")) + "/tests/engine/text/jinja_semantics.json";
  const auto file = ordered_json::parse(ReadTestFile(path));
  const ordered_json values = Conversation();
  std::mt19937 random(29);

  for (int i = 0; i < 40'000; ++i) {
    const ordered_json& test_case = file["cases"][random() % file["cases"].size()];
    Survive(Mutate(test_case["template"], random), values);
  }
}

TEST(ChatTemplateHostile, SurvivesRandomPieces) {
  const ordered_json values = Conversation();
  std::mt19937 random(31);

  for (int i = 0; i < 40'000; ++i) {
    std::string source = "{{ ";
    for (int n = static_cast<int>(random() % 16); n > 0; --n) {
      source += kPieces[random() % std::size(kPieces)];
    }
    Survive(source + " }}", values);
  }
}

TEST(ChatTemplateHostile, SurvivesRandomBytes) {
  std::mt19937 random(37);

  for (int i = 0; i < 20'000; ++i) {
    std::string source = i % 2 == 0 ? "{{" : "{%";
    for (int n = static_cast<int>(random() % 20); n > 0; --n) {
      source.push_back(static_cast<char>(random() % 128));
    }
    Survive(source + (i % 2 == 0 ? "}}" : "%}"), ordered_json::object());
  }
}

}  // namespace
}  // namespace comet
