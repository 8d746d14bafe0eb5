#include "engine/tokenizer/character_classes.h"

#include <algorithm>

#include "engine/tokenizer/unicode_tables.h"

namespace comet {

bool IsWhiteSpace(uint32_t code_point) {
  switch (code_point) {
    case 0x20:
    case 0x85:
    case 0xA0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202F:
    case 0x205F:
    case 0x3000: return true;
    default: break;
  }
  return (code_point >= 0x09 && code_point <= 0x0D) ||
         (code_point >= 0x2000 && code_point <= 0x200A);
}

bool IsWordCharacter(uint32_t code_point) {
  const auto range = std::ranges::lower_bound(unicode::kWordCharacters, code_point, {},
                                              &unicode::CodePointRange::last);
  return range != unicode::kWordCharacters.end() && range->first <= code_point;
}

}  // namespace comet
