#include "engine/sampling/stop_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/base/random.h"

namespace comet {
namespace {

// The definition, by trying every end and every stop text.
std::string CutBeforeFirst(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t begin = std::string::npos;
    for (const std::string& stop : stops) {
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0) {
        begin = std::min(begin, end - stop.size());
      }
    }
    if (begin != std::string::npos) return text.substr(0, begin);
  }
  return text;
}

// Longest suffix of the text that begins a stop text.
size_t NumBytesThatMustWait(const std::string& text, const std::vector<std::string>& stops) {
  size_t num_bytes = 0;
  for (const std::string& stop : stops) {
    for (size_t n = 1; n < stop.size() && n <= text.size(); ++n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) num_bytes = std::max(num_bytes, n);
    }
  }
  return num_bytes;
}

std::string RandomText(Random& random, int num_bytes_max, int num_letters) {
  std::string text(static_cast<size_t>(random.NextInt(num_bytes_max + 1)), ' ');
  for (char& byte : text) byte = static_cast<char>('a' + random.NextInt(num_letters));
  return text;
}

TEST(StopMatcher, LetsTextThroughWithoutStops) {
  StopMatcher matcher({});

  EXPECT_EQ(matcher.Push("all of it"), "all of it");
}

TEST(StopMatcher, CutsBeforeTheStop) {
  StopMatcher matcher({"END"});

  EXPECT_EQ(matcher.Push("one END two"), "one ");
  EXPECT_TRUE(matcher.is_matched());
  EXPECT_EQ(matcher.Push("three"), "");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcher, FindsAStopAcrossPieces) {
  StopMatcher matcher({"\n\nUser:"});

  EXPECT_EQ(matcher.Push("fine.\n"), "fine.");
  EXPECT_EQ(matcher.Push("\nUs"), "");
  EXPECT_EQ(matcher.Push("er: more"), "");
  EXPECT_TRUE(matcher.is_matched());
}

TEST(StopMatcher, HoldsBackOnlyAPossibleBeginning) {
  StopMatcher matcher({"abc"});

  EXPECT_EQ(matcher.Push("xxab"), "xx");
  EXPECT_EQ(matcher.Push("d"), "abd");
}

TEST(StopMatcher, GivesBackWhatItHeldAtTheEnd) {
  StopMatcher matcher({"abc"});
  EXPECT_EQ(matcher.Push("xab"), "x");

  EXPECT_EQ(matcher.Finish(), "ab");
}

TEST(StopMatcher, FindsAStopInsideAFailedBeginning) {
  StopMatcher matcher({"aab"});

  EXPECT_EQ(matcher.Push("aaab"), "a");
  EXPECT_TRUE(matcher.is_matched());
}

TEST(StopMatcher, TheStopCompleteFirstWins) {
  StopMatcher matcher({"abcd", "bc"});

  EXPECT_EQ(matcher.Push("abcd"), "a");
}

TEST(StopMatcher, OfTwoCompleteAtOnceTheLongerWins) {
  StopMatcher matcher({"b", "ab"});

  EXPECT_EQ(matcher.Push("xab"), "x");
}

TEST(StopMatcher, EqualsTheDefinitionOnRandomTextsAndPieces) {
  Random random(11);
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops(static_cast<size_t>(1 + random.NextInt(3)));
    for (std::string& stop : stops) stop = RandomText(random, 4, 2) + "a";
    const std::string text = RandomText(random, 24, 2 + random.NextInt(2));
    StopMatcher matcher(stops);

    std::string output;
    for (size_t at = 0; at < text.size() && !matcher.is_matched();) {
      const size_t size = static_cast<size_t>(random.NextInt(5));
      output += matcher.Push(text.substr(at, size));
      at = std::min(text.size(), at + size);
      if (!matcher.is_matched()) {
        ASSERT_EQ(at - output.size(), NumBytesThatMustWait(text.substr(0, at), stops))
            << text << " at " << at;
      }
    }
    output += matcher.Finish();

    ASSERT_EQ(output, CutBeforeFirst(text, stops)) << text;
    ASSERT_EQ(matcher.is_matched(), output.size() != text.size());
  }
}

}  // namespace
}  // namespace comet
