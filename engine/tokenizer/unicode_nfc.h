#pragma once

#include <string>
#include <string_view>

namespace comet {

// Unicode's Normalization Form C: canonical decomposition, canonical order, canonical composition.
// Bytes that are not UTF-8 stay as they are and separate what stands around them. At most three
// times as long as the text. Source: Unicode Standard Annex 15.
std::string NormalizeNfc(std::string_view text);

}  // namespace comet
