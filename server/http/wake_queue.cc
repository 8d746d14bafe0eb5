#include "server/http/wake_queue.h"

#include <utility>

#include <boost/asio/post.hpp>

#include "server/http/wake_event.h"

namespace comet {

// Weak, both: when the server is gone nothing runs the handler, and it must not keep the io_context
// it lies in.
void WakeQueue::Add(std::weak_ptr<WakeEvent> event) {
  bool is_first = false;
  {
    const std::lock_guard lock(mutex_);
    is_first = waiting_.empty();
    waiting_.push_back(std::move(event));
  }
  if (!is_first) return;
  boost::asio::post(*io_, [weak = weak_from_this()] {
    if (const auto queue = weak.lock()) queue->WakeAll();
  });
}

void WakeQueue::WakeAll() {
  {
    const std::lock_guard lock(mutex_);
    woken_.swap(waiting_);
  }
  for (const std::weak_ptr<WakeEvent>& weak : woken_) {
    if (const auto event = weak.lock()) event->Wake();
  }
  woken_.clear();
}

}  // namespace comet
