#include "server/http/wake_event.h"

#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace comet {

namespace asio = boost::asio;

WakeEvent::WakeEvent(std::shared_ptr<WakeQueue> queue)
    : queue_(std::move(queue)), timer_(queue_->executor()) {}

std::function<void()> WakeEvent::MakeWaker() {
  return [self = shared_from_this()] { self->queue_->Add(self); };
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
