#include "engine/tokenizer/unicode_nfc.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/tokenizer/unicode_tables.h"
#include "engine/tokenizer/utf8.h"

namespace comet {
namespace {

// No character below it is changed by composition or follows another into one.
constexpr uint32_t kFirstCombining = 0x300;

// Hangul syllables: Unicode Standard, 3.12.
constexpr uint32_t kHangulFirst = 0xAC00;
constexpr uint32_t kLeadFirst = 0x1100;
constexpr uint32_t kVowelFirst = 0x1161;
constexpr uint32_t kTailBase = 0x11A7;  // One before the first tail.
constexpr uint32_t kNumLeads = 19;
constexpr uint32_t kNumVowels = 21;
constexpr uint32_t kNumTails = 28;  // "No tail" included.
constexpr uint32_t kNumSyllables = kNumLeads * kNumVowels * kNumTails;

struct Character {
  uint32_t code_point;
  uint32_t combining_class;
};

uint32_t CombiningClassOf(uint32_t code_point) {
  if (code_point < kFirstCombining) return 0;
  const auto row = std::ranges::lower_bound(unicode::kCombiningClasses, code_point, {},
                                            &unicode::CombiningClass::last);
  const bool is_found = row != unicode::kCombiningClasses.end() && row->first <= code_point;
  return is_found ? row->combining_class : 0;
}

void Decompose(uint32_t code_point, std::vector<Character>& out) {
  if (code_point - kHangulFirst < kNumSyllables) {
    const uint32_t syllable = code_point - kHangulFirst;
    out.push_back({kLeadFirst + syllable / (kNumVowels * kNumTails), 0});
    out.push_back({kVowelFirst + syllable / kNumTails % kNumVowels, 0});
    if (syllable % kNumTails != 0) out.push_back({kTailBase + syllable % kNumTails, 0});
    return;
  }
  const auto row = std::ranges::lower_bound(unicode::kDecompositions, code_point, {},
                                            &unicode::Decomposition::code_point);
  if (row == unicode::kDecompositions.end() || row->code_point != code_point) {
    out.push_back({code_point, CombiningClassOf(code_point)});
    return;
  }
  Decompose(row->first, out);  // At most four deep in Unicode's tables.
  if (row->second != 0) Decompose(row->second, out);
}

// 0: the two do not compose.
uint32_t Compose(uint32_t first, uint32_t second) {
  if (first - kLeadFirst < kNumLeads && second - kVowelFirst < kNumVowels) {
    return kHangulFirst + ((first - kLeadFirst) * kNumVowels + second - kVowelFirst) * kNumTails;
  }
  const bool is_open_syllable =
      first - kHangulFirst < kNumSyllables && (first - kHangulFirst) % kNumTails == 0;
  if (is_open_syllable && second - kTailBase - 1 < kNumTails - 1) {
    return first + second - kTailBase;
  }
  const auto pair_of = [](const unicode::Composition& row) {
    return std::pair(row.first, row.second);
  };
  const std::pair pair(first, second);
  const auto row = std::ranges::lower_bound(unicode::kCompositions, pair, {}, pair_of);
  return row != unicode::kCompositions.end() && pair_of(*row) == pair ? row->composed : 0;
}

// Marks between two starters, by class; equal classes keep their order.
void Reorder(std::vector<Character>& characters) {
  for (auto it = characters.begin(); it != characters.end();) {
    if (it->combining_class == 0) {
      ++it;
      continue;
    }
    const auto end = std::find_if(it, characters.end(),
                                  [](const Character& c) { return c.combining_class == 0; });
    std::stable_sort(it, end, [](const Character& a, const Character& b) {
      return a.combining_class < b.combining_class;
    });
    it = end;
  }
}

void AppendComposed(const std::vector<Character>& characters, std::string& out) {
  std::vector<Character> kept;
  size_t starter = 0;
  bool has_starter = false;
  for (const Character& next : characters) {
    // What stands between the starter and a character of the same or a higher class blocks it.
    const bool is_adjacent = has_starter && starter + 1 == kept.size();
    const bool is_free =
        has_starter && (is_adjacent || kept.back().combining_class < next.combining_class);
    if (const uint32_t composed = is_free ? Compose(kept[starter].code_point, next.code_point) : 0;
        composed != 0) {
      kept[starter].code_point = composed;
      continue;
    }
    if (next.combining_class == 0) {
      starter = kept.size();
      has_starter = true;
    }
    kept.push_back(next);
  }
  for (const Character& character : kept) AppendUtf8(character.code_point, out);
}

// `text` is valid UTF-8.
void AppendNormalized(std::string_view text, std::string& out) {
  std::vector<Character> characters;
  while (!text.empty()) {
    const Utf8Char next = ReadUtf8Char(text);
    Decompose(next.code_point, characters);
    text.remove_prefix(next.num_bytes);
  }
  Reorder(characters);
  AppendComposed(characters, out);
}

}  // namespace

std::string NormalizeNfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  // A run of characters below kFirstCombining is normal, all but its last, which may compose.
  size_t run_begin = 0;  // Of characters that need work, from the one before them.
  size_t last_simple = 0;
  bool needs_work = false;
  const auto flush = [&](size_t end) {
    const std::string_view run = text.substr(run_begin, end - run_begin);
    if (needs_work) {
      AppendNormalized(run, out);
    } else {
      out += run;
    }
    run_begin = last_simple = end;
    needs_work = false;
  };
  for (size_t pos = 0; pos < text.size();) {
    if (static_cast<uint8_t>(text[pos]) < 0x80) {
      if (needs_work) flush(pos);
      last_simple = pos++;
      continue;
    }
    const Utf8Char next = ReadUtf8Char(text.substr(pos));
    if (next.state != Utf8State::kValid) {
      flush(pos);
      out += text.substr(pos, next.num_bytes);
      pos += next.num_bytes;
      run_begin = last_simple = pos;
      continue;
    }
    if (next.code_point < kFirstCombining) {
      if (needs_work) flush(pos);
      last_simple = pos;
    } else if (!needs_work) {
      const size_t begin = last_simple;
      flush(begin);
      needs_work = true;
    }
    pos += next.num_bytes;
  }
  flush(text.size());
  return out;
}

}  // namespace comet
