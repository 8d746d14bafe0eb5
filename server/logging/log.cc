#include "server/logging/log.h"

#include <chrono>
#include <cmath>
#include <ctime>
#include <type_traits>

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

std::string_view ToString(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return "debug";
    case LogLevel::kInfo: return "info";
    case LogLevel::kWarn: return "warn";
    case LogLevel::kError: return "error";
  }
  return "?";
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarn: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
  }
  return spdlog::level::info;
}

// Never destroyed: threads of libraries may still log while the process ends.
spdlog::logger& Logger() {
  static spdlog::logger* const logger = [] {
    auto* made = new spdlog::logger("comet", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *logger;
}

// RFC 3339 in UTC with milliseconds.
std::string FormatTime(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  const auto since_epoch =
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch());
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                     since_epoch.count() % 1000);
}

void SetField(nlohmann::ordered_json& line, const LogField& field) {
  std::visit(
      [&]<typename T>(const T& value) {
        if constexpr (std::is_same_v<T, double>) {
          // Microseconds are enough for a log, and JSON has no infinity.
          if (std::isfinite(value)) line[std::string(field.key)] = std::round(value * 1e6) / 1e6;
        } else if constexpr (std::is_same_v<T, const nlohmann::ordered_json*>) {
          line[std::string(field.key)] = *value;
        } else {
          line[std::string(field.key)] = value;
        }
      },
      field.value.variant());
}

}  // namespace

Result<LogLevel> ParseLogLevel(std::string_view text) {
  for (const LogLevel level :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError}) {
    if (ToString(level) == text) return level;
  }
  return InvalidArgument(
      StrCat("log_level: value is \"", text, "\", expected debug, info, warn or error"));
}

void SetLogLevel(LogLevel level) { Logger().set_level(ToSpdlog(level)); }

void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  spdlog::logger& logger = Logger();
  if (!logger.should_log(ToSpdlog(level))) return;
  const std::string time = FormatTime(std::chrono::system_clock::now());
  logger.log(ToSpdlog(level), FormatLogLine(level, time, event, fields));
}

std::string FormatLogLine(LogLevel level, std::string_view time, std::string_view event,
                          std::initializer_list<LogField> fields) {
  nlohmann::ordered_json line;
  line["time"] = time;
  line["level"] = ToString(level);
  line["event"] = event;
  for (const LogField& field : fields) SetField(line, field);
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace comet
