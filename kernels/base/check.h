#pragma once

#include <string_view>

namespace comet {

// Prints the place and the broken condition to stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              std::string_view message);

}  // namespace comet

// States what only a bug can break; on in release builds. A client's bytes must never reach one.
#define COMET_CHECK(condition) COMET_CHECK_MSG(condition, "")
#define COMET_CHECK_MSG(condition, message)                          \
  do {                                                               \
    if (!(condition)) [[unlikely]]                                   \
      ::comet::CheckFailed(__FILE__, __LINE__, #condition, message); \
  } while (false)
