#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

namespace comet {

// Ends a socket's operations when they take too long. One limit at a time. Confined to the I/O
// thread of the socket, which outlives every Start() that is not stopped.
class Watchdog : public std::enable_shared_from_this<Watchdog> {
 public:
  explicit Watchdog(boost::asio::ip::tcp::socket& socket)
      : socket_(socket), timer_(socket.get_executor()) {}

  // Replaces the limit before.
  void Start(std::chrono::milliseconds limit);
  void Stop();
  // The limit passed since the last Start().
  bool has_fired() const { return has_fired_; }

 private:
  boost::asio::ip::tcp::socket& socket_;
  boost::asio::steady_timer timer_;
  uint64_t start_id_ = 0;  // A cancelled timer may already have its handler queued: this tells.
  bool has_fired_ = false;
};

}  // namespace comet
