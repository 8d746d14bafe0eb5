#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "kernels/base/check.h"

namespace comet {

// What went wrong, in the terms both HTTP and gRPC can express.
enum class StatusCode {
  kOk,
  kInvalidArgument,     // The caller's value is wrong; the same call never succeeds.
  kNotFound,            // A named thing does not exist.
  kFailedPrecondition,  // The system is not in a state that allows the call.
  kResourceExhausted,   // A queue, pool or memory is full; a later call may succeed.
  kUnimplemented,       // A valid request that this build or device has no code for.
  kUnavailable,         // Draining or starting; another instance may answer.
  kCancelled,           // The client went away or cancelled.
  kDeadlineExceeded,    // The request's time ran out.
  kDataLoss,            // A file is truncated or contradicts itself.
  kInternal,            // A device or the operating system failed.
};

// "invalid_argument", ...: the form used in logs, metrics and JSON.
std::string_view ToString(StatusCode code);

// The outcome of a call that the world can make fail. Messages read
// "<where>: <what> is <got>, expected <want>". Immutable value.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status Ok() { return Status(); }

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  friend bool operator==(const Status&, const Status&) = default;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

std::ostream& operator<<(std::ostream& out, const Status& status);

Status InvalidArgument(std::string message);
Status NotFound(std::string message);
Status FailedPrecondition(std::string message);
Status ResourceExhausted(std::string message);
Status Unimplemented(std::string message);
Status Unavailable(std::string message);
Status Cancelled(std::string message);
Status DeadlineExceeded(std::string message);
Status DataLoss(std::string message);
Status Internal(std::string message);

// A value, or the Status that says why there is none. Reading the value of a failed Result is a
// bug.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(Status status) : state_(std::in_place_index<0>, std::move(status)) {  // NOLINT: implicit
    COMET_CHECK(!std::get<0>(state_).ok());
  }
  Result(T value) : state_(std::in_place_index<1>, std::move(value)) {}  // NOLINT: implicit

  bool ok() const { return state_.index() == 1; }
  Status status() const { return ok() ? Status::Ok() : std::get<0>(state_); }

  T& value() & { return Checked(); }
  const T& value() const& { return const_cast<Result*>(this)->Checked(); }
  T&& value() && { return std::move(Checked()); }

  T& operator*() & { return Checked(); }
  const T& operator*() const& { return const_cast<Result*>(this)->Checked(); }
  T&& operator*() && { return std::move(Checked()); }
  T* operator->() { return &Checked(); }
  const T* operator->() const { return &const_cast<Result*>(this)->Checked(); }

 private:
  T& Checked() {
    COMET_CHECK_MSG(ok(), std::get<0>(state_).message());
    return std::get<1>(state_);
  }

  std::variant<Status, T> state_;
};

}  // namespace comet

#define COMET_CONCAT_INNER(a, b) a##b
#define COMET_CONCAT(a, b) COMET_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expr` (a Status) failed.
#define COMET_RETURN_IF_ERROR(expr)              \
  do {                                           \
    ::comet::Status comet_status = (expr);       \
    if (!comet_status.ok()) return comet_status; \
  } while (false)

// Evaluates `expr` (a Result) and assigns its value to `lhs`, which may be a declaration.
#define COMET_ASSIGN_OR_RETURN(lhs, expr) \
  COMET_ASSIGN_OR_RETURN_IMPL(COMET_CONCAT(comet_result_, __LINE__), lhs, expr)
#define COMET_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                                \
  if (!result.ok()) return result.status();            \
  lhs = std::move(result).value()

// The same two inside a coroutine.
#define COMET_CO_RETURN_IF_ERROR(expr)              \
  do {                                              \
    ::comet::Status comet_status = (expr);          \
    if (!comet_status.ok()) co_return comet_status; \
  } while (false)
#define COMET_CO_ASSIGN_OR_RETURN(lhs, expr) \
  COMET_CO_ASSIGN_OR_RETURN_IMPL(COMET_CONCAT(comet_result_, __LINE__), lhs, expr)
#define COMET_CO_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                                   \
  if (!result.ok()) co_return result.status();            \
  lhs = std::move(result).value()
