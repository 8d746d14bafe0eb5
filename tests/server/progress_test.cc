#include "server/commands/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace comet {
namespace {

TEST(Progress, DrawsShareTimesAndDetail) {
  const ProgressState state{
      .title = "quantize", .done = 8, .all = 32, .elapsed_seconds = 62.0, .detail = "layer 7"};

  EXPECT_EQ(ProgressBar(state, 100),
            "[######..................] 8/32  1:02, 3:06 left  quantize: layer 7");
  EXPECT_EQ(ProgressText(state), "quantize: 8/32  1:02, 3:06 left  layer 7");
}

TEST(Progress, SaysNoTimeLeftBeforeTheFirstStepAndAfterTheLast) {
  ProgressState state{.title = "t", .done = 0, .all = 4, .elapsed_seconds = 1.0, .detail = "d"};
  EXPECT_EQ(ProgressText(state), "t: 0/4  0:01  d");

  state.done = 4;
  state.elapsed_seconds = 7265.0;
  EXPECT_EQ(ProgressText(state), "t: 4/4  2:01:05  d");
}

TEST(Progress, NeverFillsTheTerminalsLastColumn) {
  const ProgressState state{.title = "a long title of an evaluation",
                            .done = 1,
                            .all = 2,
                            .elapsed_seconds = 5.0,
                            .detail = "a long detail of it"};

  for (int columns = 1; columns < 120; ++columns) {
    EXPECT_LE(ProgressBar(state, columns).size(), static_cast<size_t>(std::max(columns - 1, 1)));
  }
}

TEST(Progress, NothingToDoDrawsAnEmptyBar) {
  EXPECT_NE(ProgressBar({.title = "t"}, 80).find("[........................]"), std::string::npos);
}

}  // namespace
}  // namespace comet
