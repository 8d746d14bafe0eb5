#pragma once

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
  // Of HBM, what a copy achieves; a multiprocessor's share.
  double memory_bytes_per_clock_and_sm = 11.8;  // A100: 1.8 TB/s, 108 at 1.41 GHz.
};

struct GemmPlan {
  int config_idx = 0;
  WorkSplit split;
};

TileWork WorkOf(const GemmShape& shape, const GemmConfig& config);
// Times of one CTA of kGemmConfigs[config_idx], in clocks. Bound by tensor cores and issue slots or
// by memory, whichever is slower.
WorkCosts CostsOf(int config_idx, const GemmShape& shape, const DeviceRates& rates);

// CTAs of a launch, all of which run at once on an A100. (Where they do not, as no CTA waits for
// another, the costs are too low.)
int NumCtas(int config_idx, const DeviceRates& rates);

// The config and split expected to be fastest. Pure.
GemmPlan ChoosePlan(const GemmShape& shape, const DeviceRates& rates);

}  // namespace comet::sm80
