#include "server/http/connection.h"

#include <optional>
#include <string>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "kernels/base/str_cat.h"
#include "server/http/sse.h"
#include "server/http/wake_event.h"
#include "server/http/watchdog.h"

namespace comet {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr size_t kReadBytes = 16 << 10;  // One read of the socket.
constexpr int kWritesInARowMax = 64;     // Then other connections of the thread have a turn.
constexpr size_t kPipelinedBytesMax = 64 << 10;  // Held of what follows a request being answered.

enum class ReadOutcome { kRequest, kRefused, kClosed };

using HttpError = beast::http::error;
using Parser = beast::http::request_parser<beast::http::string_body>;

ApiStatus Refusal(int http_status, std::string code, std::string message) {
  ApiStatus outcome(InvalidArgument(std::move(message)));
  outcome.http_status = http_status;
  outcome.code = std::move(code);
  return outcome;
}

// Lower case, without parameters: "Application/JSON; charset=utf-8" -> "application/json".
std::string MediaType(std::string_view value) {
  value = value.substr(0, value.find(';'));
  while (value.ends_with(' ') || value.ends_with('\t')) value.remove_suffix(1);
  std::string type(value);
  for (char& c : type) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return type;
}

// Empty when it isn't known and not HEAD: of a header that is too long, malformed or not whole yet
// the parser leaves all in the buffer, which holds `unread`.
std::string MethodOf(const Parser& parser, std::string_view unread) {
  const std::string_view method(parser.get().method_string());
  if (!method.empty()) return std::string(method);
  return unread.starts_with("HEAD ") ? "HEAD" : "";
}

class BeastConnection final : public Connection,
                              public HttpExchange,
                              public std::enable_shared_from_this<BeastConnection> {
 public:
  BeastConnection(tcp::socket socket, const ConnectionContext& context,
                  std::function<void()> on_closed, bool refuses)
      : context_(context),
        config_(context.config),
        socket_(std::move(socket)),
        buffer_(static_cast<size_t>(config_.header_bytes_max) + kPipelinedBytesMax + kReadBytes),
        wake_(std::make_shared<WakeEvent>(context.wakes)),
        watchdog_(std::make_shared<Watchdog>(socket_)),
        on_closed_(std::move(on_closed)),
        refuses_(refuses) {}

  Task<void> Run();

  void Close() override;
  void Abort() override;
  asio::any_io_executor executor() { return socket_.get_executor(); }

  const HttpRequest& request() const override { return request_; }
  Task<Status> Write(HttpResponse response) override;
  void BeginStream(std::string_view content_type) override;
  Task<Status> WriteStream(std::string_view bytes) override;
  Task<Status> EndStream(std::string_view last_bytes) override;
  bool has_begun() const override { return has_begun_; }
  bool is_client_gone() const override { return is_client_gone_; }
  std::function<void()> MakeWaker() override { return wake_->MakeWaker(); }
  Task<void> Wait() override { return wake_->Wait(); }

 private:
  Task<ReadOutcome> ReadRequest();
  Task<bool> ReadFirstByte();
  ReadOutcome RefusalOf(beast::error_code error);
  ReadOutcome TakeRequest(Parser& parser);
  Task<void> Answer();
  Task<Status> WriteFailure(ApiStatus outcome);
  std::string TakeStreamed(std::string_view bytes);
  Task<Status> WriteAll(std::string_view bytes);
  Task<void> Linger();
  void WatchClient();
  Task<void> StopWatching();
  HttpHead HeadOf(int status, std::string_view content_type) const;
  // An answer to HEAD ends after its head, whatever length it states.
  bool has_head_only() const { return request_.method == "HEAD"; }

  const ConnectionContext context_;
  const HttpConfig& config_;
  tcp::socket socket_;
  beast::flat_buffer buffer_;
  // Shared: both outlive the connection while a timer or waker of theirs is under way.
  std::shared_ptr<WakeEvent> wake_;
  std::shared_ptr<Watchdog> watchdog_;
  std::function<void()> on_closed_;
  const bool refuses_;

  // The present request.
  HttpRequest request_;
  ApiStatus refusal_;
  bool is_http10_ = false;
  bool keeps_alive_ = true;
  bool has_begun_ = false;
  bool is_stream_ = false;
  std::string unsent_head_;  // Of a stream.

  // That the socket took at once. A Wait() between them does not count as a turn of others: it
  // returns at once where the next token is there.
  int num_writes_in_a_row_ = 0;

  // A request has been read, or refused, and its answer isn't out yet.
  bool is_answering_ = false;
  bool is_closing_ = false;
  bool is_client_gone_ = false;
  bool is_watching_ = false;
  bool watch_is_pending_ = false;
  asio::cancellation_signal watch_cancel_;
};

Task<void> BeastConnection::Run() {
  while (!is_client_gone_) {
    is_answering_ = false;
    const ReadOutcome outcome = co_await ReadRequest();
    if (outcome == ReadOutcome::kClosed) break;
    is_answering_ = true;
    if (outcome == ReadOutcome::kRefused) {
      keeps_alive_ = false;
      if (!(co_await WriteFailure(refusal_)).ok()) break;
    } else {
      co_await Answer();
    }
    // Not context_.is_draining: an answer that was sent before the drain promised a next one.
    if (keeps_alive_ && !is_closing_) continue;
    co_await Linger();
    break;
  }
  watchdog_->Stop();
  boost::system::error_code ignored;
  socket_.close(ignored);
  on_closed_();
}

void BeastConnection::Close() {
  asio::post(executor(), [self = shared_from_this()] {
    self->is_closing_ = true;
    if (self->is_answering_) return;
    // The read under way ends, and should it just have, the next one finds the end of the stream.
    boost::system::error_code ignored;
    self->socket_.shutdown(tcp::socket::shutdown_receive, ignored);
    self->socket_.cancel(ignored);
  });
}

Task<ReadOutcome> BeastConnection::ReadRequest() {
  request_ = HttpRequest();
  refusal_ = ApiStatus();
  has_begun_ = false;
  is_stream_ = false;
  unsent_head_.clear();
  if (!co_await ReadFirstByte()) co_return ReadOutcome::kClosed;

  Parser parser;
  parser.header_limit(static_cast<uint32_t>(config_.header_bytes_max));
  parser.body_limit(static_cast<uint64_t>(config_.body_bytes_max));
  watchdog_->Start(std::chrono::milliseconds(config_.read_ms_max));
  auto [header_error, num_header_bytes] =
      co_await beast::http::async_read_header(socket_, buffer_, parser, kAwait);
  is_http10_ = parser.get().version() == 10;
  request_.method =
      MethodOf(parser, {static_cast<const char*>(buffer_.data().data()), buffer_.size()});
  if (header_error) co_return RefusalOf(header_error);
  if (beast::iequals(parser.get()[beast::http::field::expect], "100-continue")) {
    const Status written = co_await WriteAll("HTTP/1.1 100 Continue\r\n\r\n");
    if (!written.ok()) co_return ReadOutcome::kClosed;
    watchdog_->Start(std::chrono::milliseconds(config_.read_ms_max));
  }
  auto [body_error, num_body_bytes] =
      co_await beast::http::async_read(socket_, buffer_, parser, kAwait);
  if (body_error) co_return RefusalOf(body_error);
  watchdog_->Stop();
  co_return TakeRequest(parser);
}

void BeastConnection::Abort() {
  asio::post(executor(), [self = shared_from_this()] {
    self->is_client_gone_ = true;
    boost::system::error_code ignored;
    self->socket_.close(ignored);
    self->wake_->Wake();
  });
}

// Waits for the client to ask something. False when it left, was silent too long, or the
// server closes.
Task<bool> BeastConnection::ReadFirstByte() {
  if (buffer_.size() > 0) co_return true;
  if (is_closing_) co_return false;
  watchdog_->Start(std::chrono::milliseconds(config_.idle_ms_max));
  auto [error, num_bytes] = co_await socket_.async_read_some(buffer_.prepare(kReadBytes), kAwait);
  watchdog_->Stop();
  if (error) co_return false;
  buffer_.commit(num_bytes);
  co_return true;
}

ReadOutcome BeastConnection::RefusalOf(beast::error_code error) {
  watchdog_->Stop();
  request_.request_id = context_.request_ids.Next();
  if (watchdog_->has_fired()) {
    refusal_ = Refusal(408, "request_timeout",
                       StrCat("request: not complete after ", config_.read_ms_max, " ms"));
    return ReadOutcome::kRefused;
  }
  if (error == HttpError::body_limit) {
    refusal_ = Refusal(413, "body_too_large",
                       StrCat("body: larger than ", config_.body_bytes_max, " bytes"));
    return ReadOutcome::kRefused;
  }
  if (error == HttpError::header_limit || error == HttpError::buffer_overflow) {
    refusal_ = Refusal(431, "header_too_large",
                       StrCat("header: larger than ", config_.header_bytes_max, " bytes"));
    return ReadOutcome::kRefused;
  }
  const bool is_of_http = error.category() == make_error_code(HttpError::bad_value).category();
  const bool has_ended = error == HttpError::end_of_stream || error == HttpError::partial_message;
  if (!is_of_http || has_ended) return ReadOutcome::kClosed;
  refusal_ =
      Refusal(400, "malformed_request", StrCat("request: malformed HTTP: ", error.message()));
  return ReadOutcome::kRefused;
}

ReadOutcome BeastConnection::TakeRequest(Parser& parser) {
  auto& message = parser.get();
  keeps_alive_ = message.keep_alive();
  const auto id = message.find("X-Request-Id");
  const std::string_view sent_id =
      id == message.end() ? std::string_view() : std::string_view(id->value());
  const bool has_valid_id = IsRequestId(sent_id);
  request_.request_id = has_valid_id ? std::string(sent_id) : context_.request_ids.Next();
  if (refuses_) {
    refusal_ = ApiStatus(Unavailable(
        StrCat("server: ", config_.connections_max, " connections are open: try again later")));
    refusal_.code = "too_many_connections";
    return ReadOutcome::kRefused;
  }
  const std::string_view target(message.target());
  if (!PercentDecode(target.substr(0, target.find('?')), request_.path)) {
    refusal_ = Refusal(400, "malformed_request", "path: malformed percent-encoding");
    return ReadOutcome::kRefused;
  }
  if (id != message.end() && !has_valid_id) {
    refusal_ = FieldFault("X-Request-Id", "expected 1 to 128 of A-Z a-z 0-9 . _ : -");
    return ReadOutcome::kRefused;
  }
  request_.content_type = MediaType(message[beast::http::field::content_type]);
  request_.body = std::move(message.body());
  return ReadOutcome::kRequest;
}

Task<void> BeastConnection::Answer() {
  wake_->Reset();
  is_watching_ = true;
  WatchClient();
  const ApiStatus outcome = co_await context_.router.Handle(*this);
  if (!outcome.ok() && !(co_await WriteFailure(outcome)).ok()) keeps_alive_ = false;
  co_await StopWatching();
}

Task<Status> BeastConnection::WriteFailure(ApiStatus outcome) {
  if (has_begun_) {
    // A whole answer that is partly sent can only be cut off.
    if (!is_stream_) co_return outcome.status;
    co_return co_await EndStream(FormatSse(ErrorBody(outcome), "error"));
  }
  const int status = HttpStatusOf(outcome);
  if (status == 429 || status == 503) {
    outcome.headers.push_back({"Retry-After", std::to_string(config_.retry_after_seconds)});
  }
  co_return co_await Write(ErrorResponse(outcome));
}

HttpHead BeastConnection::HeadOf(int status, std::string_view content_type) const {
  return {.status = status,
          .content_type = content_type,
          .request_id = request_.request_id,
          .keeps_alive = keeps_alive_ && !is_closing_ && !context_.is_draining,
          .is_http10 = is_http10_};
}

Task<Status> BeastConnection::Write(HttpResponse response) {
  has_begun_ = true;
  HttpHead head = HeadOf(response.status, response.content_type);
  head.content_bytes = static_cast<long long>(response.body.size());
  head.headers = &response.headers;
  keeps_alive_ = head.keeps_alive;
  if (has_head_only()) co_return co_await WriteAll(FormatHead(head));
  co_return co_await WriteAll(FormatHead(head) + response.body);
}

void BeastConnection::BeginStream(std::string_view content_type) {
  has_begun_ = true;
  is_stream_ = true;
  // Before HTTP/1.1 a body of unknown length ends with the connection.
  if (is_http10_) keeps_alive_ = false;
  HttpHead head = HeadOf(200, content_type);
  head.content_bytes = -1;
  keeps_alive_ = head.keeps_alive;
  unsent_head_ = FormatHead(head);
}

Task<Status> BeastConnection::WriteStream(std::string_view bytes) {
  if (bytes.empty()) co_return Status::Ok();
  co_return co_await WriteAll(TakeStreamed(bytes));
}

Task<Status> BeastConnection::EndStream(std::string_view last_bytes) {
  std::string out = TakeStreamed(last_bytes);
  if (!is_http10_ && !has_head_only()) out += kLastChunk;
  co_return co_await WriteAll(out);
}

// The bytes as they follow what is sent, the head included while it is not.
std::string BeastConnection::TakeStreamed(std::string_view bytes) {
  std::string out = std::exchange(unsent_head_, {});
  if (has_head_only()) return out;
  if (is_http10_ || bytes.empty()) {
    out += bytes;
  } else {
    AppendChunk(out, bytes);
  }
  return out;
}

Task<Status> BeastConnection::WriteAll(std::string_view bytes) {
  if (is_client_gone_) co_return Cancelled("connection: the client closed it");
  // Most clients keep up: what the socket takes at once costs neither a timer nor a handler.
  boost::system::error_code ignored;  // Told again by the write that waits.
  bytes.remove_prefix(socket_.write_some(asio::buffer(bytes.data(), bytes.size()), ignored));
  if (bytes.empty()) {
    if (++num_writes_in_a_row_ < kWritesInARowMax) co_return Status::Ok();
    num_writes_in_a_row_ = 0;
    co_await asio::post(executor(), asio::use_awaitable);
    co_return Status::Ok();
  }
  num_writes_in_a_row_ = 0;
  watchdog_->Start(std::chrono::milliseconds(config_.write_ms_max));
  auto [error, num_bytes] =
      co_await asio::async_write(socket_, asio::buffer(bytes.data(), bytes.size()), kAwait);
  watchdog_->Stop();
  if (!error) co_return Status::Ok();
  is_client_gone_ = true;
  if (watchdog_->has_fired()) {
    co_return DeadlineExceeded(
        StrCat("connection: the client took nothing for ", config_.write_ms_max, " ms"));
  }
  co_return Cancelled("connection: the client closed it");
}

// A close with unread bytes resets the connection, and a client that is still sending would lose
// the answer. So what it sends is read and dropped for a while.
Task<void> BeastConnection::Linger() {
  boost::system::error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  if (is_client_gone_ || ignored) co_return;
  watchdog_->Start(std::chrono::milliseconds(config_.linger_ms_max));
  while (!watchdog_->has_fired()) {
    buffer_.clear();
    auto [error, num_bytes] = co_await socket_.async_read_some(buffer_.prepare(kReadBytes), kAwait);
    if (error) break;
  }
}

// Keeps one read under way while a request is being answered: it ends when the client closes. What
// else arrives is the next request, which the parser finds in the buffer; a client that sends more
// than fits is not watched further.
void BeastConnection::WatchClient() {
  if (buffer_.size() >= kPipelinedBytesMax) return;
  // Close() may have ended the reading, which says nothing of the client.
  if (is_closing_) return;
  watch_is_pending_ = true;
  socket_.async_read_some(
      buffer_.prepare(kReadBytes),
      asio::bind_cancellation_slot(
          watch_cancel_.slot(),
          [self = shared_from_this()](boost::system::error_code error, size_t num_bytes) {
            self->watch_is_pending_ = false;
            self->buffer_.commit(num_bytes);
            const bool was_stopped = error == asio::error::operation_aborted;
            if (error && !was_stopped) self->is_client_gone_ = true;
            if (error || !self->is_watching_) {
              self->wake_->Wake();
            } else {
              self->WatchClient();
            }
          }));
}

Task<void> BeastConnection::StopWatching() {
  is_watching_ = false;
  watch_cancel_.emit(asio::cancellation_type::total);
  while (watch_is_pending_) co_await wake_->Wait();
}

std::shared_ptr<Connection> Spawn(tcp::socket socket, const ConnectionContext& context,
                                  std::function<void()> on_closed, bool refuses) {
  const auto connection =
      std::make_shared<BeastConnection>(std::move(socket), context, std::move(on_closed), refuses);
  // Posted, so that nothing of the connection runs inside the caller's lock.
  asio::post(connection->executor(), [connection] {
    asio::co_spawn(
        connection->executor(), [connection]() -> Task<void> { co_await connection->Run(); },
        asio::detached);
  });
  return connection;
}

}  // namespace

std::shared_ptr<Connection> Connection::Start(tcp::socket socket, const ConnectionContext& context,
                                              std::function<void()> on_closed) {
  return Spawn(std::move(socket), context, std::move(on_closed), /*refuses=*/false);
}

std::shared_ptr<Connection> Connection::StartRefusing(tcp::socket socket,
                                                      const ConnectionContext& context,
                                                      std::function<void()> on_closed) {
  return Spawn(std::move(socket), context, std::move(on_closed), /*refuses=*/true);
}

}  // namespace comet
