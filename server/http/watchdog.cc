#include "server/http/watchdog.h"

namespace comet {

void Watchdog::Start(std::chrono::milliseconds limit) {
  has_fired_ = false;
  timer_.expires_after(limit);
  timer_.async_wait(
      [self = shared_from_this(), start_id = ++start_id_](boost::system::error_code error) {
        if (error || start_id != self->start_id_) return;
        self->has_fired_ = true;
        boost::system::error_code ignored;
        self->socket_.cancel(ignored);
      });
}

void Watchdog::Stop() {
  ++start_id_;
  timer_.cancel();
}

}  // namespace comet
