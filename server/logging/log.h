#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include <nlohmann/json_fwd.hpp>  // For the configuration: a tree of our own would serve one line.

#include "kernels/base/status.h"

namespace comet {

enum class LogLevel { kDebug, kInfo, kWarn, kError };

// "debug", "info", "warn", "error".
Result<LogLevel> ParseLogLevel(std::string_view text);

// A field's value; text and JSON are borrowed for the call of Log().
class LogValue {
 public:
  LogValue(bool value) : value_(value) {}  // NOLINT: implicit
  template <std::integral T>
  LogValue(T value) : value_(static_cast<int64_t>(value)) {}               // NOLINT: implicit
  LogValue(double value) : value_(value) {}                                // NOLINT: implicit
  LogValue(const char* value) : value_(std::string_view(value)) {}         // NOLINT: implicit
  LogValue(std::string_view value) : value_(value) {}                      // NOLINT: implicit
  LogValue(const std::string& value) : value_(std::string_view(value)) {}  // NOLINT: implicit
  LogValue(const nlohmann::ordered_json& value) : value_(&value) {}        // NOLINT: implicit

  using Variant =
      std::variant<bool, int64_t, double, std::string_view, const nlohmann::ordered_json*>;
  const Variant& variant() const { return value_; }

 private:
  Variant value_;
};

struct LogField {
  std::string_view key;
  LogValue value;
};

// Lines below `level` are dropped from here on. The log is the one process-wide object: it is
// called from every thread and owned by none. Thread-safe.
void SetLogLevel(LogLevel level);

// Writes one JSON line to stderr: {"time":...,"level":...,"event":...,<fields>}. Never prompt or
// output text. Invalid UTF-8 in a value is written as U+FFFD. Thread-safe.
void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields);

// The text of such a line, for tests; `time` is its timestamp.
std::string FormatLogLine(LogLevel level, std::string_view time, std::string_view event,
                          std::initializer_list<LogField> fields);

}  // namespace comet

// COMET_LOG(kInfo, "request_finished", {"request_id", id}, {"tokens", 12});
#define COMET_LOG(level, event, ...) ::comet::Log(::comet::LogLevel::level, event, {__VA_ARGS__})
