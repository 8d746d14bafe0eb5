#pragma once

#include <string>

namespace comet {

// "127.0.0.1:8000"; of IPv6, whose addresses have colons of their own, "[::1]:8000".
std::string FormatEndpoint(const std::string& host, int port);

}  // namespace comet
