#include "engine/tokenizer/unicode_nfc.h"

#include <gtest/gtest.h>

#include "engine/tokenizer/character_classes.h"

namespace comet {
namespace {

TEST(UnicodeNfc, ComposesAndReorders) {
  EXPECT_EQ(NormalizeNfc("e\u0301"), "\u00E9");
  EXPECT_EQ(NormalizeNfc("ae\u0301a"), "a\u00E9a");
  EXPECT_EQ(NormalizeNfc("a\u0323\u0302"), "\u1EAD");
  EXPECT_EQ(NormalizeNfc("a\u0302\u0323"), "\u1EAD");  // Canonical order comes first.
  EXPECT_EQ(NormalizeNfc("\u212B\u2126"), "\u00C5\u03A9");
  EXPECT_EQ(NormalizeNfc("\u0958"), "\u0915\u093C");  // Excluded from composition.
  EXPECT_EQ(NormalizeNfc("\u0301e"), "\u0301e");
}

TEST(UnicodeNfc, ComposesHangul) {
  EXPECT_EQ(NormalizeNfc("\u1100\u1161\u11A8"), "\uAC01");
  EXPECT_EQ(NormalizeNfc("\uAC00\u11A8"), "\uAC01");
  EXPECT_EQ(NormalizeNfc("\uAC00\u11A7"), "\uAC00\u11A7");
}

TEST(UnicodeNfc, LeavesTheRestAlone) {
  EXPECT_EQ(NormalizeNfc(""), "");
  EXPECT_EQ(NormalizeNfc("plain text\n"), "plain text\n");
  EXPECT_EQ(NormalizeNfc("\u4E2D\u6587 \U0001F600"), "\u4E2D\u6587 \U0001F600");
  EXPECT_EQ(NormalizeNfc("e\xFF\u0301"), "e\xFF\u0301");
}

TEST(CharacterClasses, KnowSpacesAndWords) {
  EXPECT_TRUE(IsWhiteSpace(0x3000));
  EXPECT_FALSE(IsWhiteSpace(0x180E));
  EXPECT_TRUE(IsWordCharacter('_'));
  EXPECT_TRUE(IsWordCharacter(0x4E2D));
  EXPECT_TRUE(IsWordCharacter(0x200D));
  EXPECT_FALSE(IsWordCharacter('-'));
}

}  // namespace
}  // namespace comet
