#pragma once

#include <functional>
#include <memory>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "server/http/task.h"

namespace comet {

// Lets other threads wake a coroutine. Confined to its strand, except the wakers it makes.
class WakeEvent : public std::enable_shared_from_this<WakeEvent> {
 public:
  // `io` is held because a waker may run when the server is gone.
  WakeEvent(std::shared_ptr<boost::asio::io_context> io, boost::asio::any_io_executor strand);

  // Callable from any thread, any number of times.
  std::function<void()> MakeWaker();
  void Wake();
  void Reset() { is_set_ = false; }
  // Until woken; at once when that has happened since the last Wait().
  Task<void> Wait();

 private:
  std::shared_ptr<boost::asio::io_context> io_;
  boost::asio::any_io_executor strand_;
  boost::asio::steady_timer timer_;
  bool is_set_ = false;
};

}  // namespace comet
