#pragma once

#include <functional>
#include <memory>

#include <boost/asio/ip/tcp.hpp>

#include "server/http/http_server.h"
#include "server/http/request_ids.h"
#include "server/http/router.h"
#include "server/http/wake_queue.h"

namespace comet {

// What every connection of a server shares.
struct ConnectionContext {
  // Of the connection's I/O thread. Shared: a waker may be called by another thread when the server
  // is gone.
  std::shared_ptr<WakeQueue> wakes;
  const HttpConfig& config;
  const Router& router;
  RequestIds& request_ids;
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

  // Closes after the present or next request. Callable from any thread.
  virtual void BeginDrain() = 0;
  // Closes after the request that is being answered, else at once: what has not come whole by then
  // is dropped. Callable from any thread.
  virtual void Close() = 0;
  // Closes at once; a running handler sees its client gone. Callable from any thread.
  virtual void Abort() = 0;
};

}  // namespace comet
