#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "server/http/sse.h"
#include "server/openai/answer_format.h"
#include "server/openai/answer_json.h"

namespace comet {
namespace {

constexpr std::string_view kIdPrefix = "cmpl-";
constexpr std::string_view kObject = "text_completion";

// Characters that begin in `bytes`: all but UTF-8 continuation bytes.
int NumCharacters(const std::string& bytes) {
  return static_cast<int>(std::count_if(bytes.begin(), bytes.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

// Thread confinement: see AnswerFormat.
class CompletionFormat final : public AnswerFormat {
 public:
  CompletionFormat(AnswerHead head, const Tokenizer& tokenizer)
      : head_(std::move(head)),
        tokenizer_(tokenizer),
        text_offsets_(static_cast<size_t>(head_.num_choices), 0),
        text_events_(static_cast<size_t>(head_.num_choices)) {}

  std::string Events(const OutputDelta& delta) override {
    if (delta.text.empty() && delta.logprobs.empty() && !delta.finish_reason) return {};
    const size_t choice_idx = static_cast<size_t>(delta.choice_idx);
    if (!head_.has_logprobs && !delta.finish_reason) {
      std::optional<ChunkTemplate>& text_event = text_events_[choice_idx];
      if (!text_event) text_event.emplace(Chunk(delta.choice_idx, "", nullptr, {}), "text");
      return text_event->Event(delta.text);
    }
    return FormatSse(DumpAnswer(Chunk(delta.choice_idx, delta.text,
                                      LogprobsJson(delta.logprobs, text_offsets_[choice_idx]),
                                      delta.finish_reason)));
  }

  std::string UsageEvent(const Usage& usage) const override {
    AnswerJson chunk = HeadJson(head_, kIdPrefix, kObject);
    chunk["choices"] = AnswerJson::array();
    chunk["usage"] = UsageJson(usage);
    return FormatSse(DumpAnswer(chunk));
  }

  std::string Body(const std::vector<WholeChoice>& choices, const Usage& usage) const override {
    AnswerJson body = HeadJson(head_, kIdPrefix, kObject);
    AnswerJson& list = body["choices"] = AnswerJson::array();
    for (const WholeChoice& choice : choices) {
      int text_offset = 0;
      list.push_back({{"index", list.size()},
                      {"text", choice.text},
                      {"logprobs", LogprobsJson(choice.logprobs, text_offset)},
                      {"finish_reason", FinishReasonJson(choice.finish_reason)}});
    }
    body["usage"] = UsageJson(usage);
    return DumpAnswer(body);
  }

 private:
  AnswerJson Chunk(int choice_idx, const std::string& text, AnswerJson logprobs,
                   const std::optional<FinishReason>& reason) const {
    AnswerJson chunk = HeadJson(head_, kIdPrefix, kObject);
    chunk["choices"] = AnswerJson::array({{{"index", choice_idx},
                                           {"text", text},
                                           {"logprobs", std::move(logprobs)},
                                           {"finish_reason", FinishReasonJson(reason)}}});
    if (head_.has_usage_in_stream) chunk["usage"] = nullptr;
    return chunk;
  }

  // `text_offset`: characters that the tokens before gave to the text; advanced by these.
  AnswerJson LogprobsJson(const std::vector<TokenLogprob>& logprobs, int& text_offset) const {
    if (!head_.has_logprobs) return nullptr;
    AnswerJson tokens = AnswerJson::array();
    AnswerJson values = AnswerJson::array();
    AnswerJson tops = AnswerJson::array();
    AnswerJson offsets = AnswerJson::array();
    for (const TokenLogprob& entry : logprobs) {
      const std::string text = tokenizer_.TokenBytes(entry.token_id, /*with_special=*/true);
      AnswerJson top = AnswerJson::object();
      for (const auto& [token_id, logprob] : entry.top) {
        top[tokenizer_.TokenBytes(token_id, /*with_special=*/true)] = logprob;
      }
      // The chosen token is always among them.
      top[text] = entry.logprob;
      tokens.push_back(text);
      values.push_back(entry.logprob);
      tops.push_back(std::move(top));
      offsets.push_back(text_offset);
      text_offset +=
          NumCharacters(tokenizer_.TokenBytes(entry.token_id, head_.with_special_tokens));
    }
    return {{"tokens", std::move(tokens)},
            {"token_logprobs", std::move(values)},
            {"top_logprobs", std::move(tops)},
            {"text_offset", std::move(offsets)}};
  }

  const AnswerHead head_;
  const Tokenizer& tokenizer_;
  std::vector<int> text_offsets_;                          // By choice.
  std::vector<std::optional<ChunkTemplate>> text_events_;  // By choice, once it gave text.
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeCompletionFormat(AnswerHead head, const Tokenizer& tokenizer) {
  return std::make_unique<CompletionFormat>(std::move(head), tokenizer);
}

}  // namespace comet
