#pragma once

#include <string>

namespace comet {

// std::printf into a string, of at most 1,023 characters.
[[gnu::format(printf, 1, 2)]] std::string FormatText(const char* format, ...);

}  // namespace comet
