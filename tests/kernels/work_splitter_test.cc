#include "kernels/cuda/work_splitter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/base/random.h"
#include "kernels/cuda/sm80_gemm_choice.h"
#include "kernels/cuda/sm80_plan_cache.h"
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
  std::vector<int> blocks_of_cta;
  for (int cta = 0; cta < split.num_ctas; ++cta) {
    int num_blocks = 0;
    for (const WorkPiece& piece : PiecesOf(split, work, cta)) num_blocks += piece.end - piece.begin;
    blocks_of_cta.push_back(num_blocks);
  }
  // CTAs that have an n-th block.
  std::vector<int> num_running;
  for (int n = 0; n < *std::max_element(blocks_of_cta.begin(), blocks_of_cta.end()); ++n) {
    num_running.push_back(static_cast<int>(std::count_if(blocks_of_cta.begin(), blocks_of_cta.end(),
                                                         [&](int blocks) { return blocks > n; })));
  }
  const int num_sms = (split.num_ctas + costs.ctas_per_sm - 1) / costs.ctas_per_sm;
  double makespan = 0;
  for (int cta = 0; cta < split.num_ctas; ++cta) {
    std::vector<double> charges;
    double blocks = 0;
    for (const WorkPiece& piece : PiecesOf(split, work, cta)) {
      for (int b = piece.begin; b < piece.end; ++b) {
        blocks += b < work.num_int8_blocks ? costs.int8_block : costs.int4_block;
      }
      // The pieces that end before their tile does add their sums to those that the last one reads.
      const int num_others = num_pieces[static_cast<size_t>(piece.tile_idx)] - 1;
      const double read =
          num_others == 0 ? 0.0 : costs.fixup_read + num_others * costs.fixup_read_piece;
      charges.push_back(piece.end < work.num_blocks() ? costs.fixup_write : costs.store + read);
    }
    const int num_blocks = blocks_of_cta[static_cast<size_t>(cta)];
    if (num_blocks == 0) continue;
    double time = costs.fill;
    for (size_t i = 0; i < charges.size(); ++i) {
      const bool is_hidden = costs.hides_sums && i + 1 < charges.size();
      time += (is_hidden ? 0.0 : charges[i]) + (costs.hides_sums ? costs.pass : 0.0);
    }
    for (int n = 0; n < num_blocks; ++n) {
      const int running = num_running[static_cast<size_t>(n)];
      const double part = costs.block_part[static_cast<size_t>((running + num_sms - 1) / num_sms)];
      time += std::max(part * blocks / num_blocks, running * costs.block_memory);
    }
    makespan = std::max(makespan, time);
  }
  return makespan;
}

// Makespan over bound: the rows that sm80_gemm.md has.
struct Evenness {
  int num_tokens;
  double geomean_max;
  double worst_max;      // Of all plans: whole tiles are left where a cut would cost more.
  double worst_cut_max;  // Of those that cut tiles,
  int num_cut_min;       // of which there are so many.
};
constexpr Evenness kEvenness[] = {{2, 1.01, 1.05, 1.05, 10}, {4, 1.01, 1.05, 1.05, 10},
                                  {8, 1.01, 1.05, 1.05, 10}, {16, 1.02, 1.07, 1.05, 10},
                                  {64, 1.12, 1.50, 1.20, 8}, {256, 1.06, 1.30, 1.15, 20}};

TEST(WorkSplitter, SchedulesThePapersLayersNearTheBoundAndNoLaterThanNaively) {
  const std::vector<Layer> layers = PaperLayers();
  ASSERT_EQ(layers.size(), 32u);
  const DeviceRates rates{.num_sms = kNumSms};
  for (const double share : {0.75, 0.84}) {
    for (const Evenness& expected : kEvenness) {
      const int num_tokens = expected.num_tokens;
      double log_sum = 0;
      int num_cut = 0;
      for (const Layer& layer : layers) {
        const GemmShape shape = ShapeOf(layer, num_tokens, share);
        const GemmPlan plan = ChoosePlan(shape, rates);
        const TileWork work = WorkOf(shape, kGemmConfigs[static_cast<size_t>(plan.config_idx)]);
        const int num_ctas = NumCtas(plan.config_idx, rates);
        const WorkCosts costs = CostsOf(plan.config_idx, shape, rates, plan.split.num_ctas);
        const bool is_cut = plan.split.num_whole_tiles < work.num_tiles;

        const double makespan = Simulate(plan.split, work, costs);

        const double bound = BoundOf(plan, shape, rates);
        EXPECT_NEAR(makespan, MakespanOf(plan, shape, rates), 1e-6 * makespan);
        EXPECT_LE(makespan, (is_cut ? expected.worst_cut_max : expected.worst_max) * bound)
            << layer.name << " M " << num_tokens;
        EXPECT_LE(makespan, Simulate(SplitNaively(work, num_ctas), work,
                                     CostsOf(plan.config_idx, shape, rates, num_ctas)) *
                                (1 + 1e-9))
            << layer.name << " M " << num_tokens;
        num_cut += is_cut ? 1 : 0;
        log_sum += std::log(makespan / bound);
      }
      EXPECT_LE(std::exp(log_sum / static_cast<double>(layers.size())), expected.geomean_max)
          << "M " << num_tokens << " at a share of " << share;
      EXPECT_GE(num_cut, expected.num_cut_min) << "M " << num_tokens << " at a share of " << share;
    }
  }
}

TEST(WorkSplitter, AnyWorkIsDoneOnceAndNoLaterThanNaively) {
  Random random(107);
  for (int i = 0; i < 1000; ++i) {
    const TileWork work{.num_tiles = 1 + random.NextInt(500),
                        .num_int8_blocks = random.NextInt(40),
                        .num_int4_blocks = 1 + random.NextInt(200)};
    const bool hides_sums = random.NextInt(2) == 0;
    const WorkCosts costs{.int4_block = 1.0,
                          .int8_block = 1.0 + random.NextFloat(0.0f, 2.0f),
                          .block_memory = random.NextFloat(0.0f, 0.02f),
                          .ctas_per_sm = 1 + random.NextInt(kCtasPerSmMax),
                          .block_part = {0.0, 0.5, 0.8, 1.0},
                          .fill = random.NextFloat(0.0f, 5.0f),
                          .store = random.NextFloat(0.0f, 2.0f),
                          .fixup_write = random.NextFloat(0.0f, 4.0f),
                          .fixup_read = random.NextFloat(0.0f, 4.0f),
                          .fixup_read_piece = random.NextFloat(0.0f, 2.0f),
                          .hides_sums = hides_sums,
                          .pass = hides_sums ? random.NextFloat(0.0f, 1.0f) : 0.0f,
                          .shares_weights = random.NextInt(2) == 0,
                          .granularity = 1 + random.NextInt(4)};
    const int num_ctas = 1 + random.NextInt(kCtasMax);

    const WorkSplit split = Decompose(work, costs, num_ctas);

    const double makespan = Simulate(split, work, costs);
    EXPECT_NEAR(makespan, MakespanOf(split, work, costs), 1e-6 * makespan);
    EXPECT_LE(makespan, Simulate(SplitNaively(work, num_ctas), work, costs) * (1 + 1e-9));
    EXPECT_LT(work.num_tiles - split.num_whole_tiles, 2 * num_ctas);
  }
}

// An RTX A6000 (sm_86), an L40S (sm_89), an H100 that takes compute_80 PTX, and one SM.
TEST(WorkSplitter, PlansOfOtherCardsFitThemAndDoAllWorkOnce) {
  for (const DeviceRates& rates :
       {DeviceRates{.num_sms = 84, .smem_kb = 99}, DeviceRates{.num_sms = 142, .smem_kb = 99},
        DeviceRates{.num_sms = 132, .smem_kb = 227}, DeviceRates{.num_sms = 1, .smem_kb = 163}}) {
    for (const Layer& layer : PaperLayers()) {
      for (const int num_tokens : {1, 16, 64, 256, 1111}) {
        const GemmShape shape = ShapeOf(layer, num_tokens, /*int4_share=*/0.75);

        const GemmPlan plan = ChoosePlan(shape, rates);

        const GemmConfig& config = kGemmConfigs[static_cast<size_t>(plan.config_idx)];
        ASSERT_TRUE(Fits(config, rates)) << layer.name << " M " << num_tokens;
        ASSERT_LE(plan.split.num_ctas, NumCtas(plan.config_idx, rates));
        const TileWork work = WorkOf(shape, config);
        const double makespan =
            Simulate(plan.split, work, CostsOf(plan.config_idx, shape, rates, plan.split.num_ctas));
        ASSERT_NEAR(makespan, MakespanOf(plan, shape, rates), 1e-6 * makespan)
            << layer.name << " M " << num_tokens << " on " << rates.num_sms;
      }
    }
  }
}

// A plan's class of tokens stands for all of its members, also on cards that lack configs.
TEST(PlanCache, GivesTheChosenPlanOfEveryNumberOfTokens) {
  for (const int smem_kb : {163, 99}) {
    const DeviceRates rates{.num_sms = kNumSms, .smem_kb = smem_kb};
    PlanCache cache(rates);
    GemmShape shape{.num_outputs = 4096, .num_int8_blocks = 8, .num_int4_blocks = 24};
    for (const int num_tokens :
         {1,   2,   7,   8,   9,   15,  16,  17,  31,  32,  33,  63,  64,  65,  100, 127, 128, 129,
          200, 255, 256, 257, 288, 289, 300, 320, 321, 384, 385, 480, 481, 500, 512, 513, 1000}) {
      shape.num_tokens = num_tokens;

      const GemmPlan& plan = cache.PlanOf(shape);

      const GemmPlan chosen = ChoosePlan(shape, rates);
      EXPECT_EQ(plan.config_idx, chosen.config_idx) << num_tokens;
      EXPECT_TRUE(Fits(kGemmConfigs[static_cast<size_t>(plan.config_idx)], rates)) << num_tokens;
      EXPECT_EQ(plan.split.num_ctas, chosen.split.num_ctas) << num_tokens;
      EXPECT_EQ(plan.split.num_whole_tiles, chosen.split.num_whole_tiles) << num_tokens;
      EXPECT_TRUE(std::equal(std::begin(plan.split.boundary), std::end(plan.split.boundary),
                             std::begin(chosen.split.boundary)))
          << num_tokens;
    }
  }
}

TEST(PlanCache, PlansWhatDecodingMultipliesOnceAndAhead) {
  PlanCache cache(DeviceRates{.num_sms = kNumSms});
  GemmShape shape{.num_outputs = 4096, .num_int8_blocks = 8, .num_int4_blocks = 24};

  cache.PlanAhead(shape);
  cache.PlanAhead(shape);
  EXPECT_EQ(cache.num_plans(), PlanCache::kTokensAhead / 8);
  for (shape.num_tokens = 1; shape.num_tokens <= PlanCache::kTokensAhead; ++shape.num_tokens) {
    cache.PlanOf(shape);
  }
  EXPECT_EQ(cache.num_plans(), PlanCache::kTokensAhead / 8);

  cache.PlanOf(shape);
  EXPECT_EQ(cache.num_plans(), PlanCache::kTokensAhead / 8 + 1);
}

}  // namespace
}  // namespace comet::sm80
