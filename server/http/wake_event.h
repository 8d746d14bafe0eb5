#pragma once

#include <functional>
#include <memory>

#include <boost/asio/steady_timer.hpp>

#include "server/http/task.h"
#include "server/http/wake_queue.h"

namespace comet {

// Lets other threads wake a coroutine. Confined to the I/O thread of its queue, except the wakers
// it makes.
class WakeEvent : public std::enable_shared_from_this<WakeEvent> {
 public:
  explicit WakeEvent(std::shared_ptr<WakeQueue> queue);

  // Callable from any thread, any number of times.
  std::function<void()> MakeWaker();
  void Wake();
  void Reset() { is_set_ = false; }
  // Until woken; at once when that has happened since the last Wait().
  Task<void> Wait();

 private:
  const std::shared_ptr<WakeQueue> queue_;
  boost::asio::steady_timer timer_;
  bool is_set_ = false;
};

}  // namespace comet
