#include "kernels/cuda/sm80_gemm_choice.h"

#include <algorithm>
#include <array>
#include <limits>

#include "kernels/base/math.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

namespace comet::sm80 {
namespace {

// A block of a tile of each kind on one multiprocessor while data is there, in clocks. Those of the
// stand-in on an H100 (sm80_gemm.md): the loops are bound by the latency of a warp's instructions,
// on which the cards hardly differ, and not by the rates of their units.
struct BlockClocks {
  double int4;
  double int8;
};
constexpr std::array<BlockClocks, kGemmConfigs.size()> kBlockClocks = {
    {{233, 408}, {278, 487}, {376, 659}, {931, 1630}, {1383, 2420}, {2500, 4370}}};

constexpr double kFillClocks = 1800;   // Launch to first products: a miss to HBM and a barrier.
constexpr double kFixupClocks = 1500;  // Fence, counter and the reader's first miss.
constexpr double kL2BytesPerClockAndSm = 32;

}  // namespace

TileWork WorkOf(const GemmShape& shape, const GemmConfig& config) {
  return {.num_tiles = CeilDiv(shape.num_outputs, config.tile_outputs()) *
                       CeilDiv(shape.num_tokens, config.tile_tokens()),
          .num_int8_blocks = shape.num_int8_blocks,
          .num_int4_blocks = shape.num_int4_blocks};
}

WorkCosts CostsOf(int config_idx, const GemmShape& shape, const DeviceRates& rates) {
  const GemmConfig& config = kGemmConfigs[static_cast<size_t>(config_idx)];
  const BlockClocks& clocks = kBlockClocks[static_cast<size_t>(config_idx)];
  const int num_token_tiles = CeilDiv(shape.num_tokens, config.tile_tokens());
  const double unit_bytes = config.row_warps * kUnitBytes;
  const auto block = [&](double compute_clocks, double token_bytes) {
    // Weights come from HBM for one token tile and from L2 for the others.
    const double memory_clocks = unit_bytes / num_token_tiles / rates.memory_bytes_per_clock_and_sm;
    const double l2_clocks =
        (unit_bytes + config.tile_tokens() * token_bytes) / kL2BytesPerClockAndSm;
    return config.ctas_per_sm * std::max({compute_clocks, memory_clocks, l2_clocks});
  };
  const double sums_bytes = 4.0 * config.tile_outputs() * config.tile_tokens();
  const double y_bytes = 2.0 * config.tile_outputs() * config.tile_tokens();
  return {.int4_block = block(clocks.int4, kUnitChannels / 2),
          .int8_block = block(clocks.int8, kUnitChannels),
          .fill = kFillClocks,
          .store = 400 + y_bytes / kL2BytesPerClockAndSm,
          .fixup_write = kFixupClocks + sums_bytes / kL2BytesPerClockAndSm,
          .fixup_read = 600 + sums_bytes / kL2BytesPerClockAndSm};
}

int NumCtas(int config_idx, const DeviceRates& rates) {
  return std::min(rates.num_sms * kGemmConfigs[static_cast<size_t>(config_idx)].ctas_per_sm,
                  kCtasMax);
}

GemmPlan ChoosePlan(const GemmShape& shape, const DeviceRates& rates) {
  GemmPlan best;
  double best_clocks = std::numeric_limits<double>::infinity();
  for (int i = 0; i < static_cast<int>(kGemmConfigs.size()); ++i) {
    const int tile_tokens = kGemmConfigs[static_cast<size_t>(i)].tile_tokens();
    // No narrower than half of M (up to the widest), no wider than the next tile above M.
    if (i + 1 < static_cast<int>(kGemmConfigs.size()) && 2 * tile_tokens < shape.num_tokens) {
      if (tile_tokens < 128) continue;
    }
    if (i > 0 && kGemmConfigs[static_cast<size_t>(i - 1)].tile_tokens() >= shape.num_tokens) break;
    const TileWork work = WorkOf(shape, kGemmConfigs[static_cast<size_t>(i)]);
    const WorkCosts costs = CostsOf(i, shape, rates);
    const WorkSplit split = Decompose(work, costs, NumCtas(i, rates));
    const double clocks = MakespanOf(split, work, costs);
    if (clocks < best_clocks) {
      best_clocks = clocks;
      best = {.config_idx = i, .split = split};
    }
  }
  return best;
}

}  // namespace comet::sm80
