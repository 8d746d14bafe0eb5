#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "kernels/base/status.h"
#include "server/http/http_message.h"
#include "server/http/task.h"

namespace comet {

// One request being answered: either Write() once, or BeginStream(), WriteStream()..., EndStream().
// Confined to its connection's I/O thread, wakers excepted.
// Errors of every write: kCancelled (the client went away), kDeadlineExceeded (it read too slowly
// for the write timeout; the connection is dropped).
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  virtual const HttpRequest& request() const = 0;

  virtual Task<Status> Write(HttpResponse response) = 0;

  // The head of an answer whose length is not known, sent with what follows. Error events follow
  // the same way.
  virtual void BeginStream(std::string_view content_type) = 0;
  virtual Task<Status> WriteStream(std::string_view bytes) = 0;
  virtual Task<Status> EndStream(std::string_view last_bytes) = 0;

  // Something was sent, or is about to be: an error can only be told in the stream.
  virtual bool has_begun() const = 0;
  // The socket is watched while the handler runs, so this turns true without any write.
  virtual bool is_client_gone() const = 0;

  // A function that makes the next, or present, Wait() return. Callable from any thread, any number
  // of times, also when the exchange is over.
  virtual std::function<void()> MakeWaker() = 0;
  // Until a waker was called, or once when the client went away.
  virtual Task<void> Wait() = 0;
};

}  // namespace comet
