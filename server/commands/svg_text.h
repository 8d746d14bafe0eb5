#pragma once

#include <string>
#include <string_view>

namespace comet {

// Text as an element's content: what marks up is escaped, control characters, which XML forbids,
// become spaces.
std::string EscapeSvg(std::string_view text);

}  // namespace comet
