#pragma once

#include <cstdint>
#include <span>

namespace comet::unicode {

// Rows of the Unicode character database, sorted by their first fields. Hangul syllables are left
// out: they are composed by arithmetic. Source: unicode_tables.cc is made by
// make_unicode_tables.py.

struct Decomposition {
  uint32_t code_point;
  uint32_t first;
  uint32_t second;  // 0: the decomposition is one character.
};

struct Composition {
  uint32_t first;
  uint32_t second;
  uint32_t composed;
};

struct CombiningClass {
  uint32_t first;
  uint32_t last;
  uint32_t combining_class;  // Never 0.
};

struct CodePointRange {
  uint32_t first;
  uint32_t last;
};

extern const std::span<const Decomposition> kDecompositions;
extern const std::span<const Composition> kCompositions;
extern const std::span<const CombiningClass> kCombiningClasses;
extern const std::span<const CodePointRange> kWordCharacters;

}  // namespace comet::unicode
