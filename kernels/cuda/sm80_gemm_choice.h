#pragma once

#include <vector>

#include "kernels/cuda/sm80_gemm_config.h"
#include "kernels/cuda/work_splitter.h"

namespace comet::sm80 {

// A product as the choice sees it.
struct GemmShape {
  int num_tokens = 0;   // M
  int num_outputs = 0;  // N
  int num_int8_blocks = 0;
  int num_int4_blocks = 0;  // Of packed codes; where codes are bytes all blocks are INT8.
};

// What a card does, in clocks of its multiprocessors.
struct DeviceRates {
  int num_sms = 108;
  int smem_kb = 163;  // What one CTA can have.
  // Of HBM, what a copy achieves; a multiprocessor's share. An A100's, whatever the card: it moves
  // few plans.
  double memory_bytes_per_clock_and_sm = 11.8;  // A100: 1.8 TB/s, 108 at 1.41 GHz.
};

// What predictions take to be otherwise than on the card that was timed.
struct Assumptions {
  // What an mma takes longer, where that adds to a block's clocks: else it hides behind the
  // instructions beside it, which an H100 issues one after the other (sm80_gemm.md).
  double added_mma_clocks = 0;
  // Of the clocks that are waits for memory, whatever the bytes: a card with a slower clock waits
  // fewer of them.
  double latency_factor = 1;
  // Of a block's clocks, as of a kernel that lacks a part.
  double int4_block_factor = 1;
  double int8_block_factor = 1;
};

struct GemmPlan {
  int config_idx = 0;
  WorkSplit split;
};

TileWork WorkOf(const GemmShape& shape, const GemmConfig& config);

// CTAs of kGemmConfigs[config_idx] that run at once on an A100. (Where they do not, as no CTA waits
// for another, the costs are too low.)
int NumCtas(int config_idx, const DeviceRates& rates);

// Whether a CTA of it fits the card's multiprocessors.
bool Fits(const GemmConfig& config, const DeviceRates& rates);

// Times of one of `num_ctas` CTAs, in clocks. A block is bound by tensor cores and issue slots or
// by what its multiprocessor gets of L2, both of which its CTAs share, or by what all CTAs get of
// HBM.
WorkCosts CostsOf(int config_idx, const GemmShape& shape, const DeviceRates& rates, int num_ctas,
                  const Assumptions& assumptions = {});

// Plans of all configs that fit, of tiles no narrower than a quarter of M (up to 128) and no wider
// than the next one above M.
std::vector<GemmPlan> PlansOf(const GemmShape& shape, const DeviceRates& rates,
                              const Assumptions& assumptions = {});
// The one of these that is expected to be fastest.
GemmPlan ChoosePlan(const GemmShape& shape, const DeviceRates& rates,
                    const Assumptions& assumptions = {});

// Clocks that a plan takes.
double MakespanOf(const GemmPlan& plan, const GemmShape& shape, const DeviceRates& rates,
                  const Assumptions& assumptions = {});
// What no split of the plan's tiles is below: the larger of the mean load of all CTAs that the card
// can run, the plan's charges included, of one block, and of the most blocks a CTA must get.
double BoundOf(const GemmPlan& plan, const GemmShape& shape, const DeviceRates& rates,
               const Assumptions& assumptions = {});

}  // namespace comet::sm80
