#include "kernels/cuda/sm80_gemm_choice.h"

#include <algorithm>
#include <array>
#include <limits>

#include "kernels/base/math.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

namespace comet::sm80 {
namespace {

// A block of a tile, while data is there: clocks of a CTA that has a multiprocessor to itself,
// which are latencies of its warps' instructions, and clocks of a multiprocessor that is full of
// CTAs. INT4 blocks of the stand-in on an H100 (sm80_gemm.md), where an mma takes
// kMeasuredMmaClocks.
struct BlockClocks {
  double alone;
  double full;
};
constexpr std::array<BlockClocks, kGemmConfigs.size()> kBlockClocks = {
    {{147, 147}, {213, 213}, {370, 370}, {680, 318}, {780, 445}, {1010, 790}, {1565, 1565}}};
constexpr double kInt8BlockRatio = 1.55;  // An INT8 block's over an INT4 block's.
constexpr double kMeasuredMmaClocks = 6.2;

// Launch to first products: a miss to HBM and a barrier.
constexpr double kFillClocks = 1800;
// Of sums that pass from CTA to CTA: misses, a fence and a counter; and a multiprocessor's bytes.
constexpr double kWriteClocks = 5200;
constexpr double kWriteBytesPerClock = 9.2;
constexpr double kReadClocks = 470;
constexpr double kReadBytesPerClock = 53;
constexpr double kL2BytesPerClockAndSm = 24.5;

}  // namespace

TileWork WorkOf(const GemmShape& shape, const GemmConfig& config) {
  return {.num_tiles = CeilDiv(shape.num_outputs, config.tile_outputs()) *
                       CeilDiv(shape.num_tokens, config.tile_tokens()),
          .num_int8_blocks = shape.num_int8_blocks,
          .num_int4_blocks = shape.num_int4_blocks};
}

int NumCtas(int config_idx, const DeviceRates& rates) {
  return std::min(rates.num_sms * kGemmConfigs[static_cast<size_t>(config_idx)].ctas_per_sm,
                  kCtasMax);
}

WorkCosts CostsOf(int config_idx, const GemmShape& shape, const DeviceRates& rates, int num_ctas) {
  const GemmConfig& config = kGemmConfigs[static_cast<size_t>(config_idx)];
  const BlockClocks& clocks = kBlockClocks[static_cast<size_t>(config_idx)];
  const int num_token_tiles = CeilDiv(shape.num_tokens, config.tile_tokens());
  const double unit_bytes = config.row_warps * kUnitBytes;
  const int ctas_of_sm = CeilDiv(num_ctas, rates.num_sms);
  const double mmas = config.tile_outputs() / 16.0 * config.tile_tokens() / 8.0 * 2;
  const double slower_clocks = mmas / 4 * (rates.mma_clocks - kMeasuredMmaClocks);
  // An INT8 block has twice the mmas.
  const auto block = [&](double ratio, double mma_ratio, double token_bytes) {
    const double slower = mma_ratio * slower_clocks;
    const double l2_clocks =
        ctas_of_sm * (unit_bytes + config.tile_tokens() * token_bytes) / kL2BytesPerClockAndSm;
    return std::max(
        {ratio * clocks.alone + slower, ctas_of_sm * (ratio * clocks.full + slower), l2_clocks});
  };
  const double sums_bytes = 4.0 * config.tile_outputs() * config.tile_tokens();
  const double y_bytes = 2.0 * config.tile_outputs() * config.tile_tokens();
  return {.int4_block = block(1, 1, kUnitChannels / 2),
          .int8_block = block(kInt8BlockRatio, 2, kUnitChannels),
          // Weights come from HBM for one token tile and from L2 for the others.
          .block_memory =
              unit_bytes / num_token_tiles / (rates.memory_bytes_per_clock_and_sm * rates.num_sms),
          .fill = kFillClocks,
          .store = 400 + y_bytes / kL2BytesPerClockAndSm,
          .fixup_write = kWriteClocks + ctas_of_sm * sums_bytes / kWriteBytesPerClock,
          .fixup_read = kReadClocks + ctas_of_sm * sums_bytes / kReadBytesPerClock};
}

GemmPlan ChoosePlan(const GemmShape& shape, const DeviceRates& rates) {
  GemmPlan best;
  double best_clocks = std::numeric_limits<double>::infinity();
  const auto consider = [&](const GemmPlan& plan) {
    const double clocks = MakespanOf(plan, shape, rates);
    if (clocks >= best_clocks) return;
    best_clocks = clocks;
    best = plan;
  };
  for (int i = 0; i < static_cast<int>(kGemmConfigs.size()); ++i) {
    const GemmConfig& config = kGemmConfigs[static_cast<size_t>(i)];
    // No narrower than a quarter of M (up to 128), no wider than the next tile above M.
    if (4 * config.tile_tokens() < shape.num_tokens && config.tile_tokens() < 128) continue;
    if (i > 0 && kGemmConfigs[static_cast<size_t>(i - 1)].tile_tokens() >= shape.num_tokens &&
        config.tile_tokens() > kGemmConfigs[static_cast<size_t>(i - 1)].tile_tokens()) {
      break;
    }
    const TileWork work = WorkOf(shape, config);
    const int num_ctas = NumCtas(i, rates);
    if (work.num_tiles < num_ctas) consider({i, SplitNaively(work, work.num_tiles)});
    consider({i, Decompose(work, CostsOf(i, shape, rates, num_ctas), num_ctas)});
  }
  return best;
}

double MakespanOf(const GemmPlan& plan, const GemmShape& shape, const DeviceRates& rates) {
  const GemmConfig& config = kGemmConfigs[static_cast<size_t>(plan.config_idx)];
  return MakespanOf(plan.split, WorkOf(shape, config),
                    CostsOf(plan.config_idx, shape, rates, plan.split.num_ctas));
}

double BoundOf(const GemmPlan& plan, const GemmShape& shape, const DeviceRates& rates) {
  const GemmConfig& config = kGemmConfigs[static_cast<size_t>(plan.config_idx)];
  const int num_ctas = NumCtas(plan.config_idx, rates);
  return BoundOf(plan.split, WorkOf(shape, config),
                 CostsOf(plan.config_idx, shape, rates, num_ctas), num_ctas);
}

}  // namespace comet::sm80
