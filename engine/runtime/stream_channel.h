#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "kernels/base/status.h"
#include "kernels/base/thread_annotations.h"

namespace comet {

// What the step thread says of one choice: a token, the end, or both.
struct StreamEvent {
  int choice_idx = 0;
  int token_id = -1;       // -1: none.
  bool gives_text = true;  // False for a token that ended the output.
  float logprob = 0.0f;
  std::vector<std::pair<int, float>> top_logprobs;
  std::optional<FinishReason> finish_reason;
  Status status;  // Why, when finish_reason is kError.
};

// Carries one request's events from the step thread to its reader, in order. Holds at most one
// event a token of the request, so output_tokens_max bounds it. Thread-safe.
class StreamChannel {
 public:
  // Step thread. Dropped once the reader is gone.
  void Push(StreamEvent event);

  // Reader. Moves what has come to `events`, whose content is lost.
  void TakeAll(std::vector<StreamEvent>& events);
  // Reader. Waits until something has come; false when it has not within `timeout`.
  bool WaitAny(std::chrono::nanoseconds timeout);
  // Reader. Calls `callback` once: at once if something has come, else on the step thread at the
  // next Push(). Replaces a callback that is waiting.
  void OnReady(std::function<void()> callback);
  // Reader. Nothing is kept from now on, and no callback runs after the return.
  void Close();

 private:
  std::mutex mutex_;
  std::condition_variable has_event_;
  std::vector<StreamEvent> events_ COMET_GUARDED_BY(mutex_);
  std::function<void()> callback_ COMET_GUARDED_BY(mutex_);
  bool is_closed_ COMET_GUARDED_BY(mutex_) = false;
};

}  // namespace comet
