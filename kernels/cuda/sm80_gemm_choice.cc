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
constexpr std::array<BlockClocks, kGemmConfigs.size()> kBlockClocks = {{{149, 149},
                                                                        {166, 166},
                                                                        {141, 141},
                                                                        {341, 235},
                                                                        {248, 248},
                                                                        {619, 406},
                                                                        {630, 630},
                                                                        {776, 648},
                                                                        {1278, 1278}}};
constexpr double kInt8BlockRatio = 1.96;  // An INT8 block's over an INT4 block's.

// Launch to first products: a miss to HBM and a barrier.
constexpr double kFillClocks = 1260;
// Of a tile that is stored: scales, and y to L2. Where a finisher stores, all but a CTA's last
// piece are hidden, and a piece costs what its sums take to the finisher.
constexpr double kStoreClocks = 4550;
constexpr double kStoreBytesPerClock = 32;
constexpr double kFinisherStoreClocks = 16;
constexpr double kPassClocks = 3;
constexpr double kPassBytesPerClock = 3.14;
// Of sums that pass from CTA to CTA, added in L2 or, of wider tiles, each piece's apart: misses, a
// fence and a counter; and what all of a multiprocessor's take to pass.
constexpr double kFinisherAddClocks = 1610;
constexpr double kFinisherAddBytesPerClock = 8.1;
constexpr double kFinisherReadClocks = 1300;
constexpr double kFinisherReadBytesPerClock = 4.0;
constexpr double kAddClocks = 7630;
constexpr double kAddBytesPerClock = 13.4;
constexpr double kSlotClocks = 7420;
constexpr double kSlotBytesPerClock = 11.2;
constexpr double kReadClocks = 147;
constexpr double kReadBytesPerClock = 46;
constexpr double kL2BytesPerClockAndSm = 35.4;

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
  const BlockClocks& clocks_of = kBlockClocks[static_cast<size_t>(config_idx)];
  const int num_token_tiles = CeilDiv(shape.num_tokens, config.tile_tokens());
  const double unit_bytes = config.row_warps * kUnitBytes;
  const int ctas_of_sm = CeilDiv(num_ctas, rates.num_sms);
  const double mmas = config.tile_outputs() / 16.0 * config.tile_tokens() / 8.0 * 2;
  const double added_clocks = mmas / 4 * assumptions.added_mma_clocks;
  // Of one of `num_running` CTAs on a multiprocessor. An INT8 block has twice the mmas.
  const auto block = [&](int num_running, bool is_int8) {
    const double ratio = is_int8 ? kInt8BlockRatio : 1.0;
    const double added = (is_int8 ? 2 : 1) * added_clocks;
    const double token_bytes = is_int8 ? kUnitChannels : kUnitChannels / 2;
    const double l2_clocks =
        num_running * (unit_bytes + config.tile_tokens() * token_bytes) / kL2BytesPerClockAndSm;
    const double clocks =
        std::max(ratio * clocks_of.alone + added, num_running * (ratio * clocks_of.full + added));
    const double factor = is_int8 ? assumptions.int8_block_factor : assumptions.int4_block_factor;
    return std::max(factor * clocks, l2_clocks);
  };
  std::array<double, kCtasPerSmMax + 1> block_part = {};
  for (int n = 1; n <= kCtasPerSmMax; ++n) {
    block_part[static_cast<size_t>(n)] =
        block(std::min(n, ctas_of_sm), false) / block(ctas_of_sm, false);
  }
  const double sums_bytes = 4.0 * config.tile_outputs() * config.tile_tokens();
  const double y_bytes = 2.0 * config.tile_outputs() * config.tile_tokens();
  const double bytes_of_sm = ctas_of_sm * sums_bytes;
  const double latency = assumptions.latency_factor;
  double write_clocks = latency * kSlotClocks + bytes_of_sm / kSlotBytesPerClock;
  double read_clocks = latency * kReadClocks;
  double read_piece_clocks = bytes_of_sm / kReadBytesPerClock;
  double store_clocks = latency * kStoreClocks + ctas_of_sm * y_bytes / kStoreBytesPerClock;
  double pass_clocks = 0;
  if (config.has_finisher()) {
    write_clocks = latency * kFinisherAddClocks + bytes_of_sm / kFinisherAddBytesPerClock;
    read_clocks = latency * kFinisherReadClocks + bytes_of_sm / kFinisherReadBytesPerClock;
    read_piece_clocks = 0;
    store_clocks = latency * kFinisherStoreClocks + y_bytes / kL2BytesPerClockAndSm;
    pass_clocks = kPassClocks + sums_bytes / kPassBytesPerClock;
  } else if (config.adds_in_memory()) {
    write_clocks = latency * kAddClocks + bytes_of_sm / kAddBytesPerClock;
    read_clocks += read_piece_clocks;
    read_piece_clocks = 0;
  }
  return {.int4_block = block(ctas_of_sm, /*is_int8=*/false),
          .int8_block = block(ctas_of_sm, /*is_int8=*/true),
          // Weights come from HBM for one token tile and from L2 for the others.
          .block_memory =
              unit_bytes / num_token_tiles / (rates.memory_bytes_per_clock_and_sm * rates.num_sms),
          .ctas_per_sm = ctas_of_sm,
          .block_part = block_part,
          .fill = latency * kFillClocks,
          .store = store_clocks,
          .fixup_write = write_clocks,
          .fixup_read = read_clocks,
          .fixup_read_piece = read_piece_clocks,
          .hides_sums = config.has_finisher(),
          .pass = pass_clocks,
          .shares_weights = num_token_tiles > 1,
          .granularity = config.k_groups};
}

std::vector<GemmPlan> PlansOf(const GemmShape& shape, const DeviceRates& rates,
                              const Assumptions& assumptions) {
  std::vector<GemmPlan> plans;
  int tokens_before = 0;  // Of the widest tile so far.
  for (int i = 0; i < static_cast<int>(kGemmConfigs.size()); ++i) {
    const GemmConfig& config = kGemmConfigs[static_cast<size_t>(i)];
    if (!Fits(config, rates)) continue;
    if (4 * config.tile_tokens() < shape.num_tokens && config.tile_tokens() < 128) continue;
    if (tokens_before >= shape.num_tokens && config.tile_tokens() > tokens_before) break;
    tokens_before = config.tile_tokens();
    const TileWork work = WorkOf(shape, config);
    const int num_ctas = NumCtas(i, rates);
    if (work.num_tiles < num_ctas) plans.push_back({i, SplitNaively(work, work.num_tiles)});
    const WorkCosts costs = CostsOf(i, shape, rates, num_ctas, assumptions);
    for (const WorkSplit& split : SplitsOf(work, costs, num_ctas)) plans.push_back({i, split});
  }
  return plans;
}

GemmPlan ChoosePlan(const GemmShape& shape, const DeviceRates& rates,
                    const Assumptions& assumptions) {
  GemmPlan best;
  double best_clocks = std::numeric_limits<double>::infinity();
  for (const GemmPlan& plan : PlansOf(shape, rates, assumptions)) {
    const double clocks = MakespanOf(plan, shape, rates, assumptions);
    // Of equals, the config with more stages or outputs a tile, and whole tiles.
    if (clocks > best_clocks || (clocks == best_clocks && plan.config_idx == best.config_idx)) {
      continue;
    }
    best_clocks = clocks;
    best = plan;
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
