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
// CTAs. Fitted to times of the stand-in on an H100, INT4 blocks (sm80_gemm.md). L2 or HBM bounded
// all that was timed of the first three: theirs say no more than that they are below that.
struct BlockClocks {
  double alone;
  double full;
};
constexpr std::array<BlockClocks, kGemmConfigs.size()> kBlockClocks = {{{130, 130},
                                                                        {177, 177},
                                                                        {120, 120},
                                                                        {401, 256},
                                                                        {314, 314},
                                                                        {714, 476},
                                                                        {689, 689},
                                                                        {950, 784},
                                                                        {1475, 1475}}};
constexpr double kInt8BlockRatio = 1.66;  // An INT8 block's over an INT4 block's.

// Launch to first products: a miss to HBM and a barrier.
constexpr double kFillClocks = 2030;
// Of a tile that is stored; and where a finisher does, which all but a CTA's last tile hide.
constexpr double kStoreClocks = 400;
constexpr double kFinisherStoreClocks = 70;
// Of sums that pass from CTA to CTA, added in L2 or, of wider tiles, each piece's apart: misses, a
// fence and a counter; and what all of a multiprocessor's take to pass.
constexpr double kFinisherAddClocks = 2120;
constexpr double kFinisherReadClocks = 320;
constexpr double kAddClocks = 6530;
constexpr double kAddBytesPerClock = 14.9;
constexpr double kSlotClocks = 11400;
constexpr double kSlotBytesPerClock = 9.4;
constexpr double kReadClocks = 1950;
constexpr double kReadBytesPerClock = 56;
constexpr double kL2BytesPerClockAndSm = 28.6;

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

bool Fits(const GemmConfig& config, const DeviceRates& rates) {
  return config.smem_kb <= rates.smem_kb;
}

WorkCosts CostsOf(int config_idx, const GemmShape& shape, const DeviceRates& rates, int num_ctas,
                  const Assumptions& assumptions) {
  const GemmConfig& config = kGemmConfigs[static_cast<size_t>(config_idx)];
  const BlockClocks& clocks = kBlockClocks[static_cast<size_t>(config_idx)];
  const int num_token_tiles = CeilDiv(shape.num_tokens, config.tile_tokens());
  const double unit_bytes = config.row_warps * kUnitBytes;
  const int ctas_of_sm = CeilDiv(num_ctas, rates.num_sms);
  const double mmas = config.tile_outputs() / 16.0 * config.tile_tokens() / 8.0 * 2;
  const double added_clocks = mmas / 4 * assumptions.added_mma_clocks;
  // An INT8 block has twice the mmas.
  const auto block = [&](double factor, double ratio, double mma_ratio, double token_bytes) {
    const double added = mma_ratio * added_clocks;
    const double l2_clocks =
        ctas_of_sm * (unit_bytes + config.tile_tokens() * token_bytes) / kL2BytesPerClockAndSm;
    const double alone = ratio * clocks.alone + added;
    const double full = ctas_of_sm * (ratio * clocks.full + added);
    return std::max(factor * std::max(alone, full), l2_clocks);
  };
  const double sums_bytes = 4.0 * config.tile_outputs() * config.tile_tokens();
  const double y_bytes = 2.0 * config.tile_outputs() * config.tile_tokens();
  const double bytes_of_sm = ctas_of_sm * sums_bytes;
  double write_clocks = kSlotClocks + bytes_of_sm / kSlotBytesPerClock;
  double read_clocks = kReadClocks + bytes_of_sm / kReadBytesPerClock;
  double store_clocks = kStoreClocks + y_bytes / kL2BytesPerClockAndSm;
  if (config.has_finisher()) {
    write_clocks = kFinisherAddClocks;
    read_clocks = kFinisherReadClocks;
    store_clocks = kFinisherStoreClocks;
  } else if (config.adds_in_memory()) {
    write_clocks = kAddClocks + bytes_of_sm / kAddBytesPerClock;
  }
  return {.int4_block = block(assumptions.int4_block_factor, 1, 1, kUnitChannels / 2),
          .int8_block = block(assumptions.int8_block_factor, kInt8BlockRatio, 2, kUnitChannels),
          // Weights come from HBM for one token tile and from L2 for the others.
          .block_memory =
              unit_bytes / num_token_tiles / (rates.memory_bytes_per_clock_and_sm * rates.num_sms),
          .fill = kFillClocks,
          .store = store_clocks,
          .fixup_write = write_clocks,
          .fixup_read = read_clocks,
          .granularity = config.k_groups};
}

GemmPlan ChoosePlan(const GemmShape& shape, const DeviceRates& rates,
                    const Assumptions& assumptions) {
  GemmPlan best;
  double best_clocks = std::numeric_limits<double>::infinity();
  const auto consider = [&](const GemmPlan& plan) {
    const double clocks = MakespanOf(plan, shape, rates, assumptions);
    if (clocks > best_clocks) return;  // Of equals, the one with more stages or outputs a tile.
    best_clocks = clocks;
    best = plan;
  };
  int tokens_before = 0;  // Of the widest tile so far.
  for (int i = 0; i < static_cast<int>(kGemmConfigs.size()); ++i) {
    const GemmConfig& config = kGemmConfigs[static_cast<size_t>(i)];
    if (!Fits(config, rates)) continue;
    // No narrower than a quarter of M (up to 128), no wider than the next tile above M.
    if (4 * config.tile_tokens() < shape.num_tokens && config.tile_tokens() < 128) continue;
    if (tokens_before >= shape.num_tokens && config.tile_tokens() > tokens_before) break;
    tokens_before = config.tile_tokens();
    const TileWork work = WorkOf(shape, config);
    const int num_ctas = NumCtas(i, rates);
    if (work.num_tiles < num_ctas) consider({i, SplitNaively(work, work.num_tiles)});
    consider({i, Decompose(work, CostsOf(i, shape, rates, num_ctas, assumptions), num_ctas)});
  }
  return best;
}

double MakespanOf(const GemmPlan& plan, const GemmShape& shape, const DeviceRates& rates,
                  const Assumptions& assumptions) {
  const GemmConfig& config = kGemmConfigs[static_cast<size_t>(plan.config_idx)];
  return MakespanOf(plan.split, WorkOf(shape, config),
                    CostsOf(plan.config_idx, shape, rates, plan.split.num_ctas, assumptions));
}

double BoundOf(const GemmPlan& plan, const GemmShape& shape, const DeviceRates& rates,
               const Assumptions& assumptions) {
  const GemmConfig& config = kGemmConfigs[static_cast<size_t>(plan.config_idx)];
  const int num_ctas = NumCtas(plan.config_idx, rates);
  return BoundOf(plan.split, WorkOf(shape, config),
                 CostsOf(plan.config_idx, shape, rates, num_ctas, assumptions), num_ctas);
}

}  // namespace comet::sm80
