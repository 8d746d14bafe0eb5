#pragma once

#include <string>
#include <string_view>

namespace comet {

inline constexpr std::string_view kSseContentType = "text/event-stream; charset=utf-8";
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";

// One server-sent event. Line ends inside `data` start a further data line, as the format asks;
// `event` is left out when empty.
std::string FormatSse(std::string_view data, std::string_view event = {});

}  // namespace comet
