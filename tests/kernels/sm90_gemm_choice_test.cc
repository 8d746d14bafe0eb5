#include "kernels/cuda/sm90_gemm_choice.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace comet {
namespace {

using sm90::ChooseGemmConfig;
using sm90::GemmConfig;

constexpr int kNumSms = 132;  // H100 SXM.

TEST(Sm90GemmChoice, ChoosesAConfigThatHasAKernel) {
  const auto& configs = sm90::kGemmConfigs;
  for (const int num_sms : {78, 114, kNumSms}) {
    for (int num_tokens = 1; num_tokens <= 16384; num_tokens += 1 + num_tokens / 3) {
      for (const int num_outputs : {1, 100, 4096, 57344, 152064}) {
        for (const int num_inputs : {64, 576, 4096, 29568}) {
          const GemmConfig config =
              ChooseGemmConfig({num_tokens, num_outputs, num_inputs}, num_sms);
          EXPECT_NE(std::find(configs.begin(), configs.end(), config), configs.end());
        }
      }
    }
  }
}

// A tile much wider than the tokens multiplies zeros; many narrow ones unpack every weight again.
TEST(Sm90GemmChoice, DecodingTakesAtMostTwoNarrowTiles) {
  for (const int num_tokens : {1, 8, 16, 32, 64}) {
    for (const int num_outputs : {4096, 6144, 28672, 57344}) {
      const GemmConfig config = ChooseGemmConfig({num_tokens, num_outputs, 4096}, kNumSms);
      EXPECT_GE(2 * config.tile_tokens, num_tokens) << num_outputs;
      EXPECT_LE(config.tile_tokens, std::max(16, 2 * num_tokens)) << num_outputs;
    }
  }
}

TEST(Sm90GemmChoice, FewTilesShareTheirBlocks) {
  const GemmConfig config = ChooseGemmConfig({16, 4096, 14336}, kNumSms);

  EXPECT_GT(config.k_groups * config.cluster_k, 4) << "64 tiles leave half of the card idle";
}

TEST(Sm90GemmChoice, PrefillTakesLargeTiles) {
  for (const int num_outputs : {4096, 28672, 57344}) {
    const GemmConfig config = ChooseGemmConfig({8192, num_outputs, 4096}, kNumSms);
    EXPECT_GE(config.tile_outputs() * config.tile_tokens, 192 * 128) << num_outputs;
  }
}

}  // namespace
}  // namespace comet
