#include "server/api/endpoint.h"

#include "kernels/base/str_cat.h"

namespace comet {

std::string FormatEndpoint(const std::string& host, int port) {
  const bool is_ipv6 = host.find(':') != std::string::npos;
  return is_ipv6 ? StrCat("[", host, "]:", port) : StrCat(host, ":", port);
}

}  // namespace comet
