#include "kernels/cuda/work_splitter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/base/random.h"
#include "kernels/cuda/sm80_gemm_choice.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

namespace comet::sm80 {
namespace {

constexpr int kNumSms = 108;  // A100.

struct Layer {
  std::string name;
  int num_outputs;
  int num_inputs;
};

std::vector<Layer> PaperLayers() {
  std::ifstream file(std::string(std::getenv("COMET_SOURCE_DIR")) +
                     "/configs/bench/paper_shapes.json");
  const nlohmann::json json =
      nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/true, /*ignore_comments=*/true);
  std::vector<Layer> layers;
  for (const auto& shape : json.at("shapes")) {
    layers.push_back(
        {shape.at("model").get<std::string>() + " " + shape.at("layer").get<std::string>(),
         shape.at("num_outputs"), shape.at("num_inputs")});
  }
  return layers;
}

GemmShape ShapeOf(const Layer& layer, int num_tokens, double int4_share) {
  const int num_blocks = (layer.num_inputs + kUnitChannels - 1) / kUnitChannels;
  const int num_int4 = static_cast<int>(int4_share * layer.num_inputs) / kUnitChannels;
  return {num_tokens, layer.num_outputs, num_blocks - num_int4, num_int4};
}

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

// Where it is not, the pieces' charges outweigh what an even split saves (sm80_gemm.md lists them).
TEST(WorkSplitter, SchedulesMostOfThePapersLayersWithinThreePercentOfTheBound) {
  const std::vector<Layer> layers = PaperLayers();
  ASSERT_EQ(layers.size(), 32u);
  const DeviceRates rates{.num_sms = kNumSms};
  for (const double share : {0.75, 0.875}) {
    int num_within = 0;
    int num_rows = 0;
    for (const int num_tokens : {2, 4, 8, 16, 64, 256}) {
      for (const Layer& layer : layers) {
        const GemmShape shape = ShapeOf(layer, num_tokens, share);
        const GemmPlan plan = ChoosePlan(shape, rates);
        const TileWork work = WorkOf(shape, kGemmConfigs[static_cast<size_t>(plan.config_idx)]);
        const WorkCosts costs = CostsOf(plan.config_idx, shape, rates);

        const double makespan = Simulate(plan.split, work, costs);

        const double bound = BoundOf(plan.split, work, costs);
        EXPECT_NEAR(makespan, MakespanOf(plan.split, work, costs), 1e-6 * makespan);
        EXPECT_LE(makespan, 1.25 * bound) << layer.name << " M " << num_tokens;
        ++num_rows;
        num_within += makespan <= 1.03 * bound ? 1 : 0;
      }
    }
    EXPECT_GE(num_within, num_rows * 8 / 10) << "of " << num_rows << " at a share of " << share;
  }
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
