#include "kernels/cuda/sm90_gemm_choice.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/math.h"
#include "kernels/cuda/sm90_w4ax_layout.h"

namespace comet::sm90 {
namespace {

// What a config costs on an H100 SXM.
struct GemmCost {
  float block_us;       // One block of a tile,
  float tile_us;        // a tile's fill, sums and stores,
  float memory_factor;  // and how much slower than the best it streams.
};

// Fitted to some 1,900 times (25 shapes, M 1 to 8192; sm90_gemm.md): for these the choice is 0.25 %
// slower than the fastest config in the mean and 3.5 % at worst. In the order of
// kGemmConfigs.
constexpr std::array<GemmCost, kGemmConfigs.size()> kCosts = {{
    {0.352f, 0.96f, 0.918f}, {0.366f, 0.97f, 0.941f}, {0.476f, 2.84f, 0.980f},
    {0.494f, 3.59f, 1.015f}, {0.215f, 0.47f, 0.923f}, {0.230f, 0.89f, 0.965f},
    {0.211f, 1.57f, 1.110f}, {0.345f, 3.02f, 1.009f}, {0.286f, 0.84f, 0.941f},
    {0.287f, 1.10f, 0.960f}, {0.316f, 1.20f, 0.990f}, {0.428f, 1.21f, 1.116f},
    {0.253f, 0.84f, 1.030f}, {0.293f, 1.36f, 1.072f}, {0.328f, 0.78f, 1.220f},
    {0.604f, 2.37f, 0.955f}, {0.325f, 4.18f, 1.138f}, {0.287f, 0.00f, 0.956f},
    {0.304f, 0.09f, 0.990f}, {0.343f, 0.63f, 1.020f}, {0.456f, 1.52f, 1.220f},
}};

constexpr float kLaunchUs = 1.57f;
constexpr float kMemoryBytesPerUs = 3.09e6f;
// L2 to all multiprocessors. Above what plain loads reach: CTAs that ask for the same line at the
// same time share an answer.
constexpr float kL2BytesPerUs = 15.2e6f;
// What multiprocessors without a tile in the last wave cost a product bound by memory.
constexpr float kIdleCost = 0.22f;
// Of one weight, its step included.
constexpr float kWeightBytes = float{kUnitBytes} / (kUnitOutputs * kUnitChannels);

float EstimateUs(const GemmConfig& config, const GemmCost& cost, const GemmShape& shape,
                 int num_sms) {
  const int num_row_tiles = CeilDiv(shape.num_outputs, config.tile_outputs());
  const int num_token_tiles = CeilDiv(shape.num_tokens, config.tile_tokens);
  const int num_blocks = CeilDiv(shape.num_inputs, kUnitChannels);
  const int64_t num_ctas = int64_t{num_row_tiles} * num_token_tiles * config.cluster_k;
  const float exact_waves = static_cast<float>(num_ctas) / static_cast<float>(num_sms);
  const float num_waves = std::ceil(exact_waves);
  const auto blocks_of_one =
      static_cast<float>(CeilDiv(num_blocks, config.k_groups * config.cluster_k));
  const float compute_us = num_waves * (blocks_of_one * cost.block_us + cost.tile_us);

  const float m = static_cast<float>(shape.num_tokens);
  const float n = static_cast<float>(shape.num_outputs);
  const float k = static_cast<float>(shape.num_inputs);
  const float memory_us = (n * k * kWeightBytes + m * k + 2.0f * m * n) / kMemoryBytesPerUs;
  const float l2_us = (n * k * kWeightBytes * static_cast<float>(num_token_tiles) +
                       m * k * static_cast<float>(num_row_tiles)) /
                      kL2BytesPerUs;
  const float idle_share = exact_waves > 1.0f ? num_waves / exact_waves - 1.0f : 0.0f;
  const float stream_us =
      std::max(memory_us, l2_us) * cost.memory_factor * (1.0f + kIdleCost * idle_share);
  // The larger of the two, and a little more where they are close.
  const float square = compute_us * compute_us;
  const float stream_square = stream_us * stream_us;
  return kLaunchUs + std::sqrt(std::sqrt(square * square + stream_square * stream_square));
}

}  // namespace

GemmConfig ChooseGemmConfig(const GemmShape& shape, int num_sms) {
  size_t best_idx = 0;
  float best_us = INFINITY;
  for (size_t i = 0; i < kGemmConfigs.size(); ++i) {
    const float us = EstimateUs(kGemmConfigs[i], kCosts[i], shape, num_sms);
    if (us < best_us) {
      best_us = us;
      best_idx = i;
    }
  }
  return kGemmConfigs[best_idx];
}

}  // namespace comet::sm90
