#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "kernels/base/thread_annotations.h"

namespace comet {

class WakeEvent;

// What is to be woken on one I/O thread. All that comes before the thread looks is one handler of
// its io_context, so a step that has a token for each of many streams wakes a busy thread once.
// Thread-safe.
class WakeQueue : public std::enable_shared_from_this<WakeQueue> {
 public:
  // `io` is run by one thread, and held because a waker may run when the server is gone.
  explicit WakeQueue(std::shared_ptr<boost::asio::io_context> io) : io_(std::move(io)) {}

  void Add(std::weak_ptr<WakeEvent> event);
  boost::asio::io_context::executor_type executor() const { return io_->get_executor(); }

 private:
  // I/O thread.
  void WakeAll();

  const std::shared_ptr<boost::asio::io_context> io_;
  std::mutex mutex_;
  std::vector<std::weak_ptr<WakeEvent>> waiting_ COMET_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<WakeEvent>> woken_;  // Kept for its capacity.
};

}  // namespace comet
