#include <optional>
#include <utility>
#include <vector>

#include "server/http/sse.h"
#include "server/openai/answer_format.h"
#include "server/openai/answer_json.h"

namespace comet {
namespace {

constexpr std::string_view kIdPrefix = "chatcmpl-";

AnswerJson TokenJson(const Tokenizer& tokenizer, int token_id, float logprob) {
  const std::string bytes = tokenizer.TokenBytes(token_id, /*with_special=*/true);
  AnswerJson values = AnswerJson::array();
  for (const char c : bytes) values.push_back(static_cast<unsigned char>(c));
  return {{"token", bytes}, {"logprob", logprob}, {"bytes", std::move(values)}};
}

// Thread confinement: see AnswerFormat.
class ChatFormat final : public AnswerFormat {
 public:
  ChatFormat(AnswerHead head, const Tokenizer& tokenizer)
      : head_(std::move(head)),
        tokenizer_(tokenizer),
        content_events_(static_cast<size_t>(head_.num_choices)) {}

  std::string Events(const OutputDelta& delta) override {
    std::string events;
    std::optional<ChunkTemplate>& content = content_events_[static_cast<size_t>(delta.choice_idx)];
    if (!content) {
      content.emplace(Chunk(delta.choice_idx, {{"content", ""}}, nullptr, {}), "content");
      events +=
          Event(Chunk(delta.choice_idx, {{"role", "assistant"}, {"content", ""}}, nullptr, {}));
    }
    if (!delta.logprobs.empty() || (head_.has_logprobs && !delta.text.empty())) {
      events += Event(
          Chunk(delta.choice_idx, {{"content", delta.text}}, LogprobsJson(delta.logprobs), {}));
    } else if (!delta.text.empty()) {
      events += content->Event(delta.text);
    }
    if (delta.finish_reason) {
      events += Event(Chunk(delta.choice_idx, AnswerJson::object(), nullptr, delta.finish_reason));
    }
    return events;
  }

  std::string UsageEvent(const Usage& usage) const override {
    AnswerJson chunk = HeadJson(head_, kIdPrefix, "chat.completion.chunk");
    chunk["choices"] = AnswerJson::array();
    chunk["usage"] = UsageJson(usage);
    return Event(chunk);
  }

  std::string Body(const std::vector<WholeChoice>& choices, const Usage& usage) const override {
    AnswerJson body = HeadJson(head_, kIdPrefix, "chat.completion");
    AnswerJson& list = body["choices"] = AnswerJson::array();
    for (const WholeChoice& choice : choices) {
      list.push_back(
          {{"index", list.size()},
           {"message", {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}}},
           {"logprobs", LogprobsJson(choice.logprobs)},
           {"finish_reason", FinishReasonJson(choice.finish_reason)}});
    }
    body["usage"] = UsageJson(usage);
    return DumpAnswer(body);
  }

 private:
  static std::string Event(const AnswerJson& chunk) { return FormatSse(DumpAnswer(chunk)); }

  AnswerJson Chunk(int choice_idx, AnswerJson delta, AnswerJson logprobs,
                   const std::optional<FinishReason>& reason) const {
    AnswerJson chunk = HeadJson(head_, kIdPrefix, "chat.completion.chunk");
    chunk["choices"] = AnswerJson::array({{{"index", choice_idx},
                                           {"delta", std::move(delta)},
                                           {"logprobs", std::move(logprobs)},
                                           {"finish_reason", FinishReasonJson(reason)}}});
    if (head_.has_usage_in_stream) chunk["usage"] = nullptr;
    return chunk;
  }

  AnswerJson LogprobsJson(const std::vector<TokenLogprob>& logprobs) const {
    if (!head_.has_logprobs) return nullptr;
    AnswerJson content = AnswerJson::array();
    for (const TokenLogprob& entry : logprobs) {
      AnswerJson token = TokenJson(tokenizer_, entry.token_id, entry.logprob);
      AnswerJson& top = token["top_logprobs"] = AnswerJson::array();
      for (const auto& [token_id, logprob] : entry.top) {
        top.push_back(TokenJson(tokenizer_, token_id, logprob));
      }
      content.push_back(std::move(token));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
  }

  const AnswerHead head_;
  const Tokenizer& tokenizer_;
  // By choice, once its first chunk, which names the speaker, is sent.
  std::vector<std::optional<ChunkTemplate>> content_events_;
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeChatFormat(AnswerHead head, const Tokenizer& tokenizer) {
  return std::make_unique<ChatFormat>(std::move(head), tokenizer);
}

}  // namespace comet
