// comet_sm80_plan: how products would be scheduled on a card of the A100's rates; needs no GPU. One
// JSON line a product: clocks of the naive schedule, of the remapped one, and of the one chosen;
// and of that one with a kernel whose blocks take --int4-factor and --int8-factor times as long;
// and of the plan that leaves no multiprocessor idle.
//   comet_sm80_plan [--m 2,4,8,16,64,256] [--share 0.75] [--sms 108] [--bytes-per-clock 11.8]
//                   [--added-mma-clocks 0] [--latency-factor 1] [--int4-factor 1]
//                   [--int8-factor 1] NxK ...
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/base/math.h"
#include "kernels/cuda/bench/sm80/balanced_plan.h"
#include "kernels/cuda/bench/sm80/cuts_id.h"
#include "kernels/cuda/sm80_gemm_choice.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

namespace comet::sm80 {
namespace {

void PrintPlan(const GemmShape& shape, const DeviceRates& rates, const Assumptions& assumptions,
               const Assumptions& slower, int num_inputs) {
  const GemmPlan plan = ChoosePlan(shape, rates, assumptions);
  const GemmConfig& config = kGemmConfigs[static_cast<size_t>(plan.config_idx)];
  const TileWork work = WorkOf(shape, config);
  const int num_ctas = NumCtas(plan.config_idx, rates);
  const WorkCosts costs = CostsOf(plan.config_idx, shape, rates, num_ctas, assumptions);
  const GemmPlan balanced = BalancedPlan(shape, rates, assumptions);
  std::printf(
      "{\"n\": %d, \"k\": %d, \"m\": %d, \"int8_blocks\": %d, \"int4_blocks\": %d, \"config\": %d, "
      "\"tile_outputs\": %d, \"tile_tokens\": %d, \"group_warps\": %d, \"tiles\": %d, "
      "\"whole_tiles\": %d, \"ctas\": %d, \"cuts\": %u, \"int4_block\": %.0f, \"int8_block\": "
      "%.0f, ",
      shape.num_outputs, num_inputs, shape.num_tokens, shape.num_int8_blocks, shape.num_int4_blocks,
      plan.config_idx, config.tile_outputs(), config.tile_tokens(), config.group_threads() / 32,
      work.num_tiles, plan.split.num_whole_tiles, plan.split.num_ctas, CutsId(plan.split),
      costs.int4_block / config.ctas_per_sm, costs.int8_block / config.ctas_per_sm);
  std::printf(
      "\"naive\": %.0f, \"remapped\": %.0f, \"chosen\": %.0f, \"bound\": %.0f, \"slower\": %.0f, "
      "\"balanced\": %.0f, \"balanced_bound\": %.0f}\n",
      MakespanOf(SplitNaively(work, num_ctas), work, costs),
      RemappedMakespan(work, costs, num_ctas), MakespanOf(plan, shape, rates, assumptions),
      BoundOf(plan, shape, rates, assumptions), MakespanOf(plan, shape, rates, slower),
      MakespanOf(balanced, shape, rates, assumptions),
      BoundOf(balanced, shape, rates, assumptions));
}

int Run(int argc, char** argv) {
  std::vector<int> num_tokens = {2, 4, 8, 16, 64, 256};
  double share = 0.75;
  DeviceRates rates;
  Assumptions assumptions;
  Assumptions slower;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag.rfind("--", 0) == 0) {
      const std::string value = i + 1 < argc ? argv[++i] : "";
      if (flag == "--m") {
        num_tokens.clear();
        std::stringstream stream(value);
        for (std::string m; std::getline(stream, m, ',');)
          num_tokens.push_back(std::atoi(m.c_str()));
      } else if (flag == "--share") {
        share = std::atof(value.c_str());
      } else if (flag == "--sms") {
        rates.num_sms = std::atoi(value.c_str());
      } else if (flag == "--bytes-per-clock") {
        rates.memory_bytes_per_clock_and_sm = std::atof(value.c_str());
      } else if (flag == "--added-mma-clocks") {
        assumptions.added_mma_clocks = slower.added_mma_clocks = std::atof(value.c_str());
      } else if (flag == "--latency-factor") {
        assumptions.latency_factor = slower.latency_factor = std::atof(value.c_str());
      } else if (flag == "--int4-factor") {
        slower.int4_block_factor = std::atof(value.c_str());
      } else if (flag == "--int8-factor") {
        slower.int8_block_factor = std::atof(value.c_str());
      } else {
        std::fprintf(stderr,
                     "comet_sm80_plan: flag is %s, expected --m, --share, --sms, "
                     "--bytes-per-clock, --added-mma-clocks, --int4-factor or --int8-factor\n",
                     flag.c_str());
        return 2;
      }
      continue;
    }
    const size_t x = flag.find('x');
    if (x == std::string::npos) {
      std::fprintf(stderr, "comet_sm80_plan: a shape is %s, expected NxK\n", flag.c_str());
      return 2;
    }
    const int num_inputs = std::atoi(flag.c_str() + x + 1);
    const int num_int4 = static_cast<int>(share * num_inputs) / kUnitChannels;
    for (const int m : num_tokens) {
      PrintPlan({.num_tokens = m,
                 .num_outputs = std::atoi(flag.c_str()),
                 .num_int8_blocks = CeilDiv(num_inputs, kUnitChannels) - num_int4,
                 .num_int4_blocks = num_int4},
                rates, assumptions, slower, num_inputs);
    }
  }
  return 0;
}

}  // namespace
}  // namespace comet::sm80

int main(int argc, char** argv) { return comet::sm80::Run(argc, argv); }
