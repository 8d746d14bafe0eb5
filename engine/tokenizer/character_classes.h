#pragma once

#include <cstdint>

namespace comet {

// Unicode's White_Space.
bool IsWhiteSpace(uint32_t code_point);

// What a regular expression's \w matches: letters, marks, decimal digits, connectors, joiners.
// Source: Unicode Technical Standard 18, annex C.
bool IsWordCharacter(uint32_t code_point);

}  // namespace comet
