#include "server/http/http_server.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "engine/config/config_check.h"
#include "kernels/base/host_limits.h"
#include "kernels/base/str_cat.h"
#include "kernels/base/thread_annotations.h"
#include "server/api/endpoint.h"
#include "server/http/connection.h"
#include "server/http/request_ids.h"
#include "server/http/wake_queue.h"
#include "server/logging/log.h"

namespace comet {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kRefusingConnectionsMax = 64;  // Being told 503; beyond it they are just closed.
constexpr auto kStuckTime = std::chrono::seconds(5);           // For handlers to notice an abort.
constexpr auto kAcceptPause = std::chrono::milliseconds(100);  // After a failed accept.

// A thread and the connections that live on it, which need no lock between them.
struct IoThread {
  // Shared with wakers: see ConnectionContext.
  std::shared_ptr<asio::io_context> io = std::make_shared<asio::io_context>(1);
  std::shared_ptr<WakeQueue> wakes = std::make_shared<WakeQueue>(io);
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(*io);
  std::thread thread;
};

// A thread sends some 100,000 tokens a second; most of the host is the engine's and the clients'.
int NumIoThreads(const HttpConfig& config) {
  constexpr int kDefaultMax = 8;
  if (config.num_threads > 0) return config.num_threads;
  return std::clamp(ReadHostLimits().num_cpus / 4, 1, kDefaultMax);
}

class AsioHttpServer final : public HttpServer {
 public:
  AsioHttpServer(const HttpConfig& config, const Router& router)
      : config_(config),
        router_(router),
        threads_(static_cast<size_t>(NumIoThreads(config))),
        acceptor_(*threads_.front().io),
        accept_timer_(*threads_.front().io) {}

  ~AsioHttpServer() override;

  Status Open();
  Status Start() override;
  int port() const override;
  int num_threads() const override { return static_cast<int>(threads_.size()); }
  int num_connections() const override;
  void BeginDrain() override { is_draining_ = true; }
  void Close() override;
  bool WaitDrained(std::chrono::milliseconds timeout) override;

 private:
  Status BindFailure(error_code error) const;
  void Accept();
  void Serve(tcp::socket socket, IoThread& thread);

  const HttpConfig config_;
  const Router& router_;
  std::vector<IoThread> threads_;
  // The first thread's.
  tcp::acceptor acceptor_;
  asio::steady_timer accept_timer_;
  size_t next_thread_idx_ = 0;  // Of the connection that is accepted next.

  RequestIds request_ids_;
  std::atomic<bool> is_draining_ = false;

  mutable std::mutex mutex_;
  std::condition_variable connection_closed_;
  std::map<uint64_t, std::weak_ptr<Connection>> connections_ COMET_GUARDED_BY(mutex_);
  uint64_t next_connection_id_ COMET_GUARDED_BY(mutex_) = 0;
  bool is_closing_ COMET_GUARDED_BY(mutex_) = false;
};

AsioHttpServer::~AsioHttpServer() {
  Close();
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, weak_connection] : connections_) {
      if (const auto connection = weak_connection.lock()) connection->Abort();
    }
  }
  // Handlers notice at their next wake; only one in a job of the worker pool takes longer, and
  // must: the job uses its locals.
  const bool has_started = threads_.front().thread.joinable();
  if (has_started && !WaitDrained(kStuckTime)) COMET_LOG(kWarn, "connections_stuck");
  // The threads end when every handler has run. One left behind by stop() would keep its
  // connection, and that the io_context it lies in, for ever.
  for (IoThread& thread : threads_) thread.work.reset();
  for (IoThread& thread : threads_) {
    if (thread.thread.joinable()) thread.thread.join();
  }
}

Status AsioHttpServer::BindFailure(error_code error) const {
  return FailedPrecondition(StrCat("http: cannot listen on ",
                                   FormatEndpoint(config_.host, config_.port), ": ",
                                   error.message()));
}

Status AsioHttpServer::Open() {
  error_code error;
  const asio::ip::address address = asio::ip::make_address(config_.host, error);
  if (error) {
    return InvalidArgument(StrCat("http: host is \"", config_.host, "\", expected an IP address"));
  }
  const tcp::endpoint endpoint(address, static_cast<uint16_t>(config_.port));
  acceptor_.open(endpoint.protocol(), error);
  if (error) return BindFailure(error);
  acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (error) return BindFailure(error);
  // So that "::" takes IPv4 too, as gRPC's does, whatever the system's default.
  if (address.is_v6()) acceptor_.set_option(asio::ip::v6_only(false), error);
  if (error) return BindFailure(error);
  acceptor_.bind(endpoint, error);
  if (error) return BindFailure(error);
  return Status::Ok();
}

Status AsioHttpServer::Start() {
  error_code error;
  acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) return BindFailure(error);
  asio::post(*threads_.front().io, [this] { Accept(); });
  for (IoThread& thread : threads_) {
    thread.thread = std::thread([&io = *thread.io] { io.run(); });
  }
  return Status::Ok();
}

int AsioHttpServer::port() const {
  error_code error;
  return acceptor_.local_endpoint(error).port();
}

int AsioHttpServer::num_connections() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(connections_.size());
}

void AsioHttpServer::Accept() {
  IoThread& thread = threads_[next_thread_idx_];
  next_thread_idx_ = (next_thread_idx_ + 1) % threads_.size();
  acceptor_.async_accept(*thread.io, [this, &thread](error_code error, tcp::socket socket) {
    if (!acceptor_.is_open()) return;
    if (!error) {
      Serve(std::move(socket), thread);
      Accept();
      return;
    }
    // Out of descriptors, most likely: closing connections will free some.
    COMET_LOG(kWarn, "accept_failed", {"reason", error.message()});
    accept_timer_.expires_after(kAcceptPause);
    accept_timer_.async_wait([this](error_code) {
      if (acceptor_.is_open()) Accept();
    });
  });
}

void AsioHttpServer::Serve(tcp::socket socket, IoThread& thread) {
  error_code ignored;
  socket.non_blocking(true, ignored);
  // A token is a small write that must leave at once.
  socket.set_option(tcp::no_delay(true), ignored);
  if (config_.send_buffer_bytes > 0) {
    socket.set_option(asio::socket_base::send_buffer_size(config_.send_buffer_bytes), ignored);
  }
  const std::lock_guard lock(mutex_);
  const int num_open = static_cast<int>(connections_.size());
  if (is_closing_ || num_open >= config_.connections_max + kRefusingConnectionsMax) return;
  const uint64_t connection_id = next_connection_id_++;
  const ConnectionContext context{thread.wakes, config_, router_, request_ids_, is_draining_};
  const auto on_closed = [this, connection_id] {
    const std::lock_guard closing_lock(mutex_);
    connections_.erase(connection_id);
    connection_closed_.notify_all();
  };
  connections_[connection_id] =
      num_open < config_.connections_max
          ? Connection::Start(std::move(socket), context, on_closed)
          : Connection::StartRefusing(std::move(socket), context, on_closed);
}

void AsioHttpServer::Close() {
  asio::post(*threads_.front().io, [this] {
    error_code ignored;
    acceptor_.close(ignored);
    accept_timer_.cancel();
  });
  const std::lock_guard lock(mutex_);
  is_closing_ = true;
  for (const auto& [id, weak_connection] : connections_) {
    if (const auto connection = weak_connection.lock()) connection->Close();
  }
}

bool AsioHttpServer::WaitDrained(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return connection_closed_.wait_for(lock, timeout, [this] { return connections_.empty(); });
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::Bind(const HttpConfig& config,
                                                     const Router& router) {
  auto server = std::make_unique<AsioHttpServer>(config, router);
  COMET_RETURN_IF_ERROR(server->Open());
  return std::unique_ptr<HttpServer>(std::move(server));
}

Status HttpConfig::Validate() const {
  ConfigCheck check("http");
  check.InRange("port", port, 0, 65535);
  check.InRange("num_threads", num_threads, 0, 64);
  check.AtLeast("connections_max", connections_max, 1);
  check.InRange("body_bytes_max", body_bytes_max, int64_t{1024}, int64_t{1} << 30);
  check.InRange("header_bytes_max", header_bytes_max, 1024, 1 << 20);
  check.AtLeast("idle_ms_max", idle_ms_max, 1);
  check.AtLeast("read_ms_max", read_ms_max, 1);
  check.AtLeast("write_ms_max", write_ms_max, 1);
  check.AtLeast("linger_ms_max", linger_ms_max, 0);
  check.AtLeast("send_buffer_bytes", send_buffer_bytes, 0);
  check.AtLeast("retry_after_seconds", retry_after_seconds, 1);
  return check.status();
}

}  // namespace comet
