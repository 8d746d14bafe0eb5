#pragma once

#include <string_view>

namespace comet {

// Of this build: "0.1.0".
std::string_view Version();

}  // namespace comet
