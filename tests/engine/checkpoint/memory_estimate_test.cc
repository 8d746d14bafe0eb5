#include "engine/quantizer/memory_estimate.h"

#include <gtest/gtest.h>

namespace comet {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

ModelConfig Llama3(int hidden_size, int num_heads, int ffn_size) {
  return {.hidden_size = hidden_size,
          .num_layers = 32,
          .num_heads = num_heads,
          .num_kv_heads = 8,
          .head_dim = 128,
          .rotary_dim = 128,
          .ffn_size = ffn_size,
          .vocab_size = 128256,
          .context_length_max = 8192};
}

constexpr CalibrationSize kCalibration{
    .num_tokens = 8192, .window_tokens_max = 512, .num_sample_tokens = 128};

// A layer's worth, not the model's: 8B floats alone would be 30 GiB.
TEST(MemoryEstimate, GrowsWithTheLayerAndNotTheModel) {
  ModelConfig config = Llama3(4096, 32, 14336);
  const int64_t bytes = EstimatePeakBytes(config, kCalibration);

  EXPECT_GT(bytes, 4 * kGiB);
  EXPECT_LT(bytes, 10 * kGiB);
  config.num_layers = 80;
  EXPECT_EQ(EstimatePeakBytes(config, kCalibration), bytes);
  EXPECT_GT(EstimatePeakBytes(Llama3(8192, 64, 28672), kCalibration), 2 * bytes);
  CalibrationSize tuned = kCalibration;
  tuned.num_tuning_tokens = 8192;
  EXPECT_GT(EstimatePeakBytes(config, tuned), bytes + int64_t{8192} * 14336 * 4);
}

TEST(MemoryEstimate, RefusalNamesBothSizes) {
  EXPECT_TRUE(CheckMemory(100, 100).ok());
  const Status status = CheckMemory(3 * kGiB, kGiB);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "quantize: 3072 MiB of memory are needed, available are 1024 MiB");
}

}  // namespace
}  // namespace comet
