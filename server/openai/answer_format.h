#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/request.h"
#include "engine/tokenizer/tokenizer.h"

namespace comet {

// Everything one choice gave.
struct WholeChoice {
  std::string text;
  std::vector<TokenLogprob> logprobs;
  FinishReason finish_reason = FinishReason::kStop;
};

struct AnswerHead {
  std::string request_id;
  std::string model;
  int64_t created = 0;
  bool has_logprobs = false;
  bool with_special_tokens = false;
  bool has_usage_in_stream = false;
  int num_choices = 1;
};

// Writes one request's output in the JSON of its endpoint. Only deltas without a failure reach it.
// Confined to one request's I/O thread.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;

  // The server-sent events of a delta, ready to send; empty when it tells the client nothing.
  virtual std::string Events(const OutputDelta& delta) = 0;
  // The event after the last choice's end, when the client asked for usage.
  virtual std::string UsageEvent(const Usage& usage) const = 0;
  // The body of an answer that isn't streamed.
  virtual std::string Body(const std::vector<WholeChoice>& choices, const Usage& usage) const = 0;
};

// `tokenizer` outlives the format.
std::unique_ptr<AnswerFormat> MakeChatFormat(AnswerHead head, const Tokenizer& tokenizer);
std::unique_ptr<AnswerFormat> MakeCompletionFormat(AnswerHead head, const Tokenizer& tokenizer);

}  // namespace comet
