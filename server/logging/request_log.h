#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "engine/request.h"
#include "kernels/base/status.h"

namespace comet {

// Gathers what one request's log line says. Confined to one thread at a time.
class RequestLog {
 public:
  RequestLog(std::string request_id, std::string_view endpoint)
      : request_id_(std::move(request_id)), endpoint_(endpoint) {}

  void NoteDelta(const OutputDelta& delta);

  // Writes the one line of a request that reached the engine. `endpoint` is a literal.
  void Finish(std::string_view model, const Usage& usage, const Status& status) const;
  // Writes the one line of a request that didn't.
  void Refuse(const Status& status, int wire_code) const;

 private:
  using Clock = std::chrono::steady_clock;

  std::string request_id_;
  std::string_view endpoint_;
  Clock::time_point start_ = Clock::now();
  std::optional<Clock::time_point> first_token_;
  std::optional<FinishReason> reason_;
};

}  // namespace comet
