#include "kernels/cuda/work_splitter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kernels/base/random.h"

namespace comet::sm80 {
namespace {

// Adds up a schedule piece by piece, without the splitter's own sums. Checks that every block of
// every tile is multiplied once.
double Simulate(const WorkSplit& split, const TileWork& work, const WorkCosts& costs) {
  std::vector<std::vector<int>> count(static_cast<size_t>(work.num_tiles),
                                      std::vector<int>(static_cast<size_t>(work.num_blocks())));
  std::vector<int> num_pieces(static_cast<size_t>(work.num_tiles));
  for (int cta = 0; cta < split.num_ctas; ++cta) {
    for (const WorkPiece& piece : PiecesOf(split, work, cta)) {
      ++num_pieces[static_cast<size_t>(piece.tile_idx)];
      for (int b = piece.begin; b < piece.end; ++b) {
        ++count[static_cast<size_t>(piece.tile_idx)][static_cast<size_t>(b)];
      }
    }
  }
  for (const std::vector<int>& tile : count) {
    EXPECT_TRUE(std::all_of(tile.begin(), tile.end(), [](int n) { return n == 1; }));
  }
  double makespan = 0;
  for (int cta = 0; cta < split.num_ctas; ++cta) {
    double time = 0;
    for (const WorkPiece& piece : PiecesOf(split, work, cta)) {
      if (time == 0) time = costs.fill;
      for (int b = piece.begin; b < piece.end; ++b) {
        time += b < work.num_int8_blocks ? costs.int8_block : costs.int4_block;
      }
      // The pieces that end before their tile does leave their sums, which the last piece reads.
      const bool is_last = piece.end == work.num_blocks();
      time += is_last ? costs.store +
                            (num_pieces[static_cast<size_t>(piece.tile_idx)] - 1) * costs.fixup_read
                      : costs.fixup_write;
    }
    makespan = std::max(makespan, time);
  }
  return makespan;
}

TEST(WorkSplitter, AnyWorkIsDoneOnceAndNoLaterThanNaively) {
  Random random(107);
  for (int i = 0; i < 2000; ++i) {
    const TileWork work{.num_tiles = 1 + random.NextInt(500),
                        .num_int8_blocks = random.NextInt(40),
                        .num_int4_blocks = 1 + random.NextInt(200)};
    const WorkCosts costs{.int4_block = 1.0,
                          .int8_block = 1.0 + random.NextFloat(0.0f, 2.0f),
                          .fill = random.NextFloat(0.0f, 5.0f),
                          .store = random.NextFloat(0.0f, 2.0f),
                          .fixup_write = random.NextFloat(0.0f, 4.0f),
                          .fixup_read = random.NextFloat(0.0f, 4.0f),
                          .granularity = 1 + random.NextInt(4)};
    const int num_ctas = 1 + random.NextInt(kCtasMax);

    const WorkSplit split = Decompose(work, costs, num_ctas);

    const double makespan = Simulate(split, work, costs);
    EXPECT_NEAR(makespan, MakespanOf(split, work, costs), 1e-6 * makespan);
    EXPECT_LE(makespan, Simulate(SplitNaively(work, num_ctas), work, costs) * (1 + 1e-9));
    EXPECT_LT(work.num_tiles - split.num_whole_tiles, 2 * num_ctas);
  }
}

}  // namespace
}  // namespace comet::sm80
