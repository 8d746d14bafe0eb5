#include "engine/runtime/stream_channel.h"

namespace comet {

// Callbacks run under the mutex, so that after Close() none runs: what they refer to may be gone
// with the stream. They neither block nor call the stream (TokenStream::OnReady).
void StreamChannel::Push(StreamEvent event) {
  std::lock_guard lock(mutex_);
  if (is_closed_) return;
  events_.push_back(std::move(event));
  has_event_.notify_one();
  if (callback_) std::exchange(callback_, nullptr)();
}

void StreamChannel::TakeAll(std::vector<StreamEvent>& events) {
  events.clear();
  std::lock_guard lock(mutex_);
  events_.swap(events);
}

bool StreamChannel::WaitAny(std::chrono::nanoseconds timeout) {
  std::unique_lock lock(mutex_);
  return has_event_.wait_for(lock, timeout, [this] { return !events_.empty(); });
}

void StreamChannel::OnReady(std::function<void()> callback) {
  std::lock_guard lock(mutex_);
  if (events_.empty()) {
    callback_ = std::move(callback);
  } else {
    callback_ = nullptr;
    callback();
  }
}

void StreamChannel::Close() {
  std::lock_guard lock(mutex_);
  is_closed_ = true;
  events_.clear();
  callback_ = nullptr;
}

}  // namespace comet
