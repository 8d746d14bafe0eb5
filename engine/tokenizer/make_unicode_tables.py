#!/usr/bin/env python3
"""Writes Unicode tables from the database that this Python, or its package unicodedata2, carries.

Usage: make_unicode_tables.py normalization > normalization_tables.cc   with Python 3.6: Unicode 9
       make_unicode_tables.py words > word_table.cc                     with unicodedata2 16.0.0
Then clang-format -i them. The versions are those of Hugging Face's tokenizers.
"""

import sys

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

POINTS = range(sys.maxunicode + 1)
HANGUL = range(0xAC00, 0xD7A4)  # Composed by arithmetic.
# What Rust's regex calls \w: UTS 18, annex C. Other_Alphabetic is marks, but for circled letters.
WORD_CATEGORIES = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc"}
CIRCLED = [range(0x24B6, 0x24EA), range(0x1F130, 0x1F14A), range(0x1F150, 0x1F16A),
           range(0x1F170, 0x1F18A)]
JOINERS = (0x200C, 0x200D)


def canonical(point):
    """The canonical decomposition, one step: a list of one or two code points, or none."""
    text = unicodedata.decomposition(chr(point))
    if not text or text.startswith("<") or point in HANGUL:
        return []
    return [int(part, 16) for part in text.split()]


def ranges(points_with_value):
    """Runs of consecutive code points of one value."""
    runs = []
    for point, value in points_with_value:
        if runs and runs[-1][1] == point - 1 and runs[-1][2] == value:
            runs[-1][1] = point
        else:
            runs.append([point, point, value])
    return runs


def is_word(point):
    return (unicodedata.category(chr(point)) in WORD_CATEGORIES or point in JOINERS or
            any(point in circled for circled in CIRCLED))


def emit(row_type, name, rows):
    print(f"\nnamespace {{\nconstexpr {row_type} k{name}Rows[] = {{")
    print("\n".join("    {" + ", ".join(f"0x{number:X}" for number in row) + "}," for row in rows))
    print(f"}};\n}}  // namespace\n\nconst std::span<const {row_type}> k{name}(k{name}Rows);")


def normalization():
    decompositions = [(p, *(canonical(p) + [0])[:2]) for p in POINTS if canonical(p)]
    compositions = sorted((first, second, p) for p, first, second in decompositions
                          if second and unicodedata.normalize("NFC", chr(p)) == chr(p))
    classes = ranges((p, unicodedata.combining(chr(p))) for p in POINTS
                     if unicodedata.combining(chr(p)))
    emit("Decomposition", "Decompositions", decompositions)
    emit("Composition", "Compositions", compositions)
    emit("CombiningClass", "CombiningClasses", classes)


def words():
    runs = ranges((p, 1) for p in POINTS if is_word(p))
    emit("CodePointRange", "WordCharacters", [run[:2] for run in runs])


def main():
    print(f"// Made by make_unicode_tables.py {sys.argv[1]} from Unicode {unicodedata.unidata_version}.\n")
    print('#include "engine/tokenizer/unicode_tables.h"\n\nnamespace comet::unicode {')
    {"normalization": normalization, "words": words}[sys.argv[1]]()
    print("\n}  // namespace comet::unicode")


if __name__ == "__main__":
    main()
