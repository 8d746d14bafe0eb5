#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include <boost/asio/ip/tcp.hpp>

#include "server/http/http_server.h"
#include "server/http/request_ids.h"
#include "server/http/router.h"
#include "server/http/wake_queue.h"

namespace comet {

// What the connections of one I/O thread share, all but `wakes` with those of the others.
struct ConnectionContext {
  // Of the connection's I/O thread. Shared: a waker may be called by another thread when the server
  // is gone.
  std::shared_ptr<WakeQueue> wakes;
  const HttpConfig& config;
  const Router& router;
  RequestIds& request_ids;
  const std::atomic<bool>& is_draining;  // From then on every answer is its connection's last.
};

// One client's connection, from its first byte to its close. Confined to its I/O thread, except
// where a function says otherwise.
class Connection {
 public:
  virtual ~Connection() = default;

  // Serves until the client leaves, a limit is broken or the server drains; `on_closed` is called
  // last, on the I/O thread. The socket's executor is that thread's.
  static std::shared_ptr<Connection> Start(boost::asio::ip::tcp::socket socket,
                                           const ConnectionContext& context,
                                           std::function<void()> on_closed);
  // The same, but answers 503 to whatever is asked.
  static std::shared_ptr<Connection> StartRefusing(boost::asio::ip::tcp::socket socket,
                                                   const ConnectionContext& context,
                                                   std::function<void()> on_closed);

  // Closes after the request that is being answered, else at once: what has not come whole by then
  // is dropped. Callable from any thread.
  virtual void Close() = 0;
  // Closes at once; a running handler sees its client gone. Callable from any thread.
  virtual void Abort() = 0;
};

}  // namespace comet
