#include "engine/runtime/output_stream.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace comet {

OutputStream::OutputStream(EngineExchange& exchange, const Tokenizer& tokenizer,
                           std::shared_ptr<StreamChannel> channel,
                           const OutputStreamOptions& options)
    : exchange_(exchange),
      channel_(std::move(channel)),
      first_sequence_id_(options.first_sequence_id),
      with_logprobs_(options.with_logprobs),
      num_unread_(options.num_choices) {
  choices_.reserve(static_cast<size_t>(options.num_choices));
  for (int i = 0; i < options.num_choices; ++i) {
    choices_.push_back(
        {StreamingDetokenizer(tokenizer, options.with_special_tokens, options.continues_text),
         StopMatcher(options.stop)});
  }
  usage_.prompt_tokens = options.num_prompt_tokens;
  exchange_.AddStream();
}

OutputStream::~OutputStream() {
  Cancel();
  channel_->Close();
  exchange_.RemoveStream();
}

std::optional<OutputDelta> OutputStream::TryNext() {
  if (deltas_.empty()) TakeEvents();
  if (deltas_.empty()) return std::nullopt;
  OutputDelta delta = std::move(deltas_.front());
  deltas_.pop_front();
  if (delta.finish_reason) --num_unread_;
  return delta;
}

// Events may come that give nothing: those behind a stop text.
std::optional<OutputDelta> OutputStream::WaitNext(std::chrono::milliseconds timeout) {
  const TimePoint end = std::chrono::steady_clock::now() + timeout;
  while (true) {
    if (std::optional<OutputDelta> delta = TryNext(); delta || is_finished()) return delta;
    if (!channel_->WaitAny(end - std::chrono::steady_clock::now())) return std::nullopt;
  }
}

void OutputStream::OnReady(std::function<void()> callback) {
  if (deltas_.empty()) {
    channel_->OnReady(std::move(callback));
  } else {
    callback();
  }
}

void OutputStream::Cancel() {
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (choices_[i].is_finished) continue;
    exchange_.EndSequence({.sequence_id = first_sequence_id_ + static_cast<int64_t>(i),
                           .reason = FinishReason::kCancelled});
  }
}

void OutputStream::TakeEvents() {
  channel_->TakeAll(events_);
  for (StreamEvent& event : events_) TakeEvent(event);
}

void OutputStream::TakeEvent(StreamEvent& event) {
  Choice& choice = choices_[static_cast<size_t>(event.choice_idx)];
  if (choice.is_finished) return;
  OutputDelta& delta = DeltaOf(event.choice_idx);
  if (event.token_id >= 0) TakeToken(event, choice, delta);
  if (event.finish_reason && !choice.matcher.is_matched()) {
    delta.text += choice.matcher.Push(choice.detokenizer.Finish());
    delta.text += choice.matcher.Finish();
    delta.finish_reason = event.finish_reason;
    delta.status = std::move(event.status);
  }
  if (choice.matcher.is_matched()) {
    delta.finish_reason = FinishReason::kStop;
    delta.status = Status::Ok();
    exchange_.EndSequence(
        {.sequence_id = first_sequence_id_ + event.choice_idx, .reason = FinishReason::kStop});
  }
  choice.is_finished = delta.finish_reason.has_value();
}

void OutputStream::TakeToken(StreamEvent& event, Choice& choice, OutputDelta& delta) {
  delta.token_ids.push_back(event.token_id);
  ++usage_.completion_tokens;
  if (with_logprobs_) {
    delta.logprobs.push_back({.token_id = event.token_id,
                              .logprob = event.logprob,
                              .top = std::move(event.top_logprobs)});
  }
  if (event.gives_text) {
    delta.text += choice.matcher.Push(choice.detokenizer.Push(event.token_id));
  }
}

// Few choices, and one delta each since TryNext() found none.
OutputDelta& OutputStream::DeltaOf(int choice_idx) {
  const auto found = std::find_if(deltas_.begin(), deltas_.end(), [&](const OutputDelta& delta) {
    return delta.choice_idx == choice_idx;
  });
  if (found != deltas_.end()) return *found;
  OutputDelta& delta = deltas_.emplace_back();
  delta.choice_idx = choice_idx;
  return delta;
}

}  // namespace comet
