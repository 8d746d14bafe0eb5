#include "server/http/sse.h"

namespace comet {

std::string FormatSse(std::string_view data, std::string_view event) {
  std::string out;
  out.reserve(data.size() + event.size() + 20);
  if (!event.empty()) out.append("event: ").append(event).append("\n");
  out.append("data: ");
  for (size_t i = 0; i < data.size(); ++i) {
    // CR, LF and CR LF all end a line there.
    if (data[i] == '\r' && i + 1 < data.size() && data[i + 1] == '\n') continue;
    if (data[i] == '\r' || data[i] == '\n') {
      out.append("\ndata: ");
    } else {
      out += data[i];
    }
  }
  return out.append("\n\n");
}

}  // namespace comet
