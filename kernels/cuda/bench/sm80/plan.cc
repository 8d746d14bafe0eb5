// comet_sm80_plan: how products would be scheduled on a card of the A100's rates; needs no GPU. One
// JSON line a product: clocks of the naive schedule, of the remapped one, and of the one chosen;
// and of that one with a kernel whose blocks take --block-factor times as long.
//   comet_sm80_plan [--m 2,4,8,16,64,256] [--share 0.75] [--sms 108] [--bytes-per-clock 11.8]
//                   [--mma-clocks 8] [--adds-mma-clocks 0] [--block-factor 1] NxK ...
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/base/math.h"
#include "kernels/cuda/sm80_gemm_choice.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

namespace comet::sm80 {
namespace {

void PrintPlan(const GemmShape& shape, const DeviceRates& rates, double block_factor,
               int num_inputs) {
  const GemmPlan plan = ChoosePlan(shape, rates);
  const GemmConfig& config = kGemmConfigs[static_cast<size_t>(plan.config_idx)];
  const TileWork work = WorkOf(shape, config);
  const int num_ctas = NumCtas(plan.config_idx, rates);
  const WorkCosts costs = CostsOf(plan.config_idx, shape, rates, num_ctas);
  DeviceRates slower = rates;
  slower.block_factor = block_factor;
  std::printf(
      "{\"n\": %d, \"k\": %d, \"m\": %d, \"int8_blocks\": %d, \"int4_blocks\": %d, \"config\": %d, "
      "\"tile_outputs\": %d, \"tile_tokens\": %d, \"group_warps\": %d, \"tiles\": %d, "
      "\"whole_tiles\": %d, \"ctas\": %d, \"int4_block\": %.0f, \"naive\": %.0f, \"remapped\": "
      "%.0f, "
      "\"chosen\": %.0f, \"bound\": %.0f, \"slower\": %.0f}\n",
      shape.num_outputs, num_inputs, shape.num_tokens, shape.num_int8_blocks, shape.num_int4_blocks,
      plan.config_idx, config.tile_outputs(), config.tile_tokens(), config.group_threads() / 32,
      work.num_tiles, plan.split.num_whole_tiles, plan.split.num_ctas,
      costs.int4_block / config.ctas_per_sm, MakespanOf(SplitNaively(work, num_ctas), work, costs),
      RemappedMakespan(work, costs, num_ctas), MakespanOf(plan, shape, rates),
      BoundOf(plan, shape, rates), MakespanOf(plan, shape, slower));
}

int Run(int argc, char** argv) {
  std::vector<int> num_tokens = {2, 4, 8, 16, 64, 256};
  double share = 0.75;
  double block_factor = 1;
  DeviceRates rates;
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
      } else if (flag == "--mma-clocks") {
        rates.mma_clocks = std::atof(value.c_str());
      } else if (flag == "--adds-mma-clocks") {
        rates.adds_mma_clocks = std::atoi(value.c_str()) != 0;
      } else if (flag == "--block-factor") {
        block_factor = std::atof(value.c_str());
      } else {
        std::fprintf(stderr,
                     "comet_sm80_plan: flag is %s, expected --m, --share, --sms, "
                     "--bytes-per-clock, --mma-clocks, --adds-mma-clocks or --block-factor\n",
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
                rates, block_factor, num_inputs);
    }
  }
  return 0;
}

}  // namespace
}  // namespace comet::sm80

int main(int argc, char** argv) { return comet::sm80::Run(argc, argv); }
