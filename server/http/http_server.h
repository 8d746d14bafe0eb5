#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "kernels/base/status.h"
#include "server/http/router.h"

namespace comet {

struct HttpConfig {
  std::string host = "127.0.0.1";
  int port = 8000;                    // 0: any free one.
  int num_threads = 0;                // I/O threads; 0: a quarter of the cores, 1 to 8.
  int connections_max = 1024;         // Beyond it a connection is answered 503 and closed.
  int64_t body_bytes_max = 4 << 20;   // 413 beyond.
  int header_bytes_max = 16 << 10;    // 431 beyond.
  int idle_ms_max = 75000;            // Between requests of a kept connection.
  int read_ms_max = 30000;            // From a request's first byte to its last: 408 beyond.
  int write_ms_max = 30000;           // For one write: a client that reads slower is dropped.
  int linger_ms_max = 2000;           // For reading what a refused client still sends.
  int send_buffer_bytes = 128 << 10;  // Kernel memory a slow client can hold; 0: the system's.
  int retry_after_seconds = 1;        // Told with 429 and 503.

  Status Validate() const;
};

// An HTTP/1.1 server: accepts, parses, routes, writes. Each connection is a coroutine on one of the
// I/O threads, each with connections of its own. Thread-safe after Bind().
class HttpServer {
 public:
  // Takes the port, so that a port in use fails before anything slow. `router` outlives the server.
  // Errors: kInvalidArgument (host is no address), kFailedPrecondition (port in use).
  static Result<std::unique_ptr<HttpServer>> Bind(const HttpConfig& config, const Router& router);
  // Drops every connection, waits for their handlers and joins the threads.
  virtual ~HttpServer() = default;

  // Listens and accepts from here on. Errors: as of Bind().
  virtual Status Start() = 0;
  virtual int port() const = 0;
  virtual int num_threads() const = 0;  // Chosen where the configuration says 0.
  virtual int num_connections() const = 0;

  // Serves on, but every answer is its connection's last: probes and clients are told of the drain
  // rather than refused.
  virtual void BeginDrain() = 0;
  // Closes the listening socket and every connection that isn't answering a request, also one that
  // has sent half of it; the request being answered becomes its connection's last.
  virtual void Close() = 0;
  // Waits until no connection is left. False when `timeout` passed first.
  virtual bool WaitDrained(std::chrono::milliseconds timeout) = 0;
};

}  // namespace comet
