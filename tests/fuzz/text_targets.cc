#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "engine/chat_template/chat_template.h"
#include "engine/loader/json_reader.h"
#include "engine/loader/sentencepiece_model.h"
#include "engine/loader/tiktoken_file.h"
#include "engine/loader/tokenizer_json.h"
#include "engine/tokenizer/streaming_detokenizer.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/check.h"
#include "tests/fuzz/targets.h"

namespace comet {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kText =
    "Hello  World 123's \xE2\x96\x81 e\xCC\x81 \xF0\x9F\x98\x80 <s>[INST]</s><|eot_id|>\n\xFF a";
constexpr int kDepthMax = 64;

// Every id is in the vocabulary, and streaming gives text.
void UseVocabulary(Result<Vocabulary> vocabulary) {
  if (!vocabulary.ok()) return;
  const auto tokenizer = Tokenizer::Create(std::move(vocabulary).value());
  if (!tokenizer.ok()) return;
  const auto ids = (*tokenizer)->Encode(kText, {.parse_special = true});
  if (!ids.ok()) return;
  StreamingDetokenizer detokenizer(**tokenizer, /*with_special=*/true);
  for (const int id : *ids) {
    COMET_CHECK(id >= 0 && id < (*tokenizer)->vocab_size());
    (void)detokenizer.Push(id);
  }
  (void)detokenizer.Finish();
  (void)(*tokenizer)->Decode(*ids, /*with_special=*/false);
}

// Small limits: an execution stays short, and the limits' own code is reached.
ChatTemplateLimits SmallLimits() {
  return {.steps_max = 20000,
          .depth_max = 64,
          .output_bytes_max = 64 * 1024,
          .value_bytes_max = 1024 * 1024};
}

ordered_json FixedValues() {
  return {{"messages",
           {{{"role", "system"}, {"content", "Be brief."}},
            {{"role", "user"}, {"content", "Hi \xC3\xA9 {{ x }}"}},
            {{"role", "assistant"}, {"content", "Hello"}, {"tool_calls", ordered_json::array()}}}},
          {"tools", {{{"type", "function"}, {"function", {{"name", "f"}, {"parameters", {}}}}}}},
          {"add_generation_prompt", true},
          {"bos_token", "<s>"},
          {"eos_token", "</s>"},
          {"n", -7},
          {"f", 2.5},
          {"none", nullptr}};
}

std::time_t FixedTime() { return 1721995200; }

}  // namespace

void FuzzTokenizerJson(std::string_view bytes) { UseVocabulary(ParseTokenizerJson("f", bytes)); }

void FuzzSentencePieceModel(std::string_view bytes) {
  UseVocabulary(ParseSentencePieceModel("f", bytes));
}

void FuzzTiktoken(std::string_view bytes) { UseVocabulary(ParseTiktoken("f", bytes)); }

void FuzzTemplateSource(std::string_view bytes) {
  const auto parsed = ChatTemplate::Parse(bytes, SmallLimits(), FixedTime);
  if (parsed.ok()) (void)(*parsed)->Render(FixedValues());
}

void FuzzTemplateValues(std::string_view bytes) {
  constexpr std::string_view kSources[] = {
      "{% for m in messages %}{{ m.role|upper }}: {{ m['content']|trim }}{% if not loop.last %}\n"
      "{% endif %}{% endfor %}{{ tools|tojson(indent=2) }}",
      "{{ messages|map(attribute='content')|join(', ') }}{{ messages|selectattr('role','equalto',"
      "'user')|list|length }}{{ messages[0].content.split('a')|last }}{{ messages[-1:] }}",
      "{% for k, v in x|dictsort %}{{ k ~ '=' ~ v }}{% endfor %}{{ x }}{{ x.items()|list|sort }}",
      "{{ x + 1 }}",
      "{{ x * 3 }}",
      "{{ x[1:-1] }}{{ x|string|length }}{{ x|int }}{{ x|float }}",
  };
  // Values arrive from server/json, which refuses deeper ones.
  const Result<nlohmann::json> checked = ParseJson("f", bytes, kDepthMax);
  if (!checked.ok()) return;
  const ordered_json given = ordered_json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  if (given.is_discarded()) return;
  const ordered_json values = given.is_object() ? given : ordered_json{{"x", given}};
  for (const std::string_view source : kSources) {
    const auto parsed = ChatTemplate::Parse(source, SmallLimits(), FixedTime);
    COMET_CHECK(parsed.ok());
    (void)(*parsed)->Render(values);
  }
}

}  // namespace comet
