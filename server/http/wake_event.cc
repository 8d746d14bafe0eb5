#include "server/http/wake_event.h"

#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace comet {

namespace asio = boost::asio;

WakeEvent::WakeEvent(std::shared_ptr<asio::io_context> io, asio::any_io_executor strand)
    : io_(std::move(io)), strand_(std::move(strand)), timer_(strand_) {}

std::function<void()> WakeEvent::MakeWaker() {
  return [self = shared_from_this()] {
    // Weak: when the server is gone nothing runs it, and it must not keep the io_context it lies
    // in.
    asio::post(self->strand_, [weak = self->weak_from_this()] {
      if (const auto event = weak.lock()) event->Wake();
    });
  };
}

void WakeEvent::Wake() {
  is_set_ = true;
  timer_.cancel();
}

Task<void> WakeEvent::Wait() {
  while (!is_set_) {
    timer_.expires_at(asio::steady_timer::time_point::max());
    co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  is_set_ = false;
}

}  // namespace comet
