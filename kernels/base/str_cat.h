#pragma once

#include <sstream>
#include <string>

namespace comet {

// Joins printable values into one string; for messages, not for hot paths.
template <typename... Args>
std::string StrCat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return std::move(out).str();
}

}  // namespace comet
