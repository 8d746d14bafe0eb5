#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/runtime/engine_exchange.h"
#include "engine/runtime/stream_channel.h"
#include "engine/sampling/stop_matcher.h"
#include "engine/tokenizer/streaming_detokenizer.h"
#include "engine/tokenizer/tokenizer.h"

namespace comet {

// What a stream needs to know of its request.
struct OutputStreamOptions {
  int64_t first_sequence_id = 0;
  int num_choices = 1;
  int num_prompt_tokens = 0;
  std::vector<std::string> stop;
  bool with_special_tokens = false;
  bool continues_text = false;  // Of the prompt: see StreamingDetokenizer.
  bool with_logprobs = false;
};

// The reader's end of a request: turns events into deltas, tokens into text, and ends a choice at
// its first stop text. See TokenStream for threads.
class OutputStream final : public TokenStream {
 public:
  // `exchange` and `tokenizer` outlive the stream.
  OutputStream(EngineExchange& exchange, const Tokenizer& tokenizer,
               std::shared_ptr<StreamChannel> channel, const OutputStreamOptions& options);
  ~OutputStream() override;

  std::optional<OutputDelta> TryNext() override;
  std::optional<OutputDelta> WaitNext(std::chrono::milliseconds timeout) override;
  void OnReady(std::function<void()> callback) override;
  bool is_finished() const override { return num_unread_ == 0; }
  Usage usage() const override { return usage_; }
  void Cancel() override;

 private:
  struct Choice {
    StreamingDetokenizer detokenizer;
    StopMatcher matcher;
    bool is_finished = false;  // What comes for it is past its end.
  };

  // Turns what the channel has into deltas_, one a choice.
  void TakeEvents();
  void TakeEvent(StreamEvent& event);
  void TakeToken(StreamEvent& event, Choice& choice, OutputDelta& delta);
  OutputDelta& DeltaOf(int choice_idx);

  EngineExchange& exchange_;
  const std::shared_ptr<StreamChannel> channel_;  // Shared with the step thread; see Submission.
  const int64_t first_sequence_id_;
  const bool with_logprobs_;
  std::vector<Choice> choices_;
  std::vector<StreamEvent> events_;  // Kept for its capacity.
  std::deque<OutputDelta> deltas_;   // Not read yet.
  int num_unread_;                   // Choices whose last delta is not read yet.
  Usage usage_;
};

}  // namespace comet
