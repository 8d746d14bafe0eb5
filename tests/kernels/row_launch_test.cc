#include "kernels/cuda/row_launch.h"

#include <gtest/gtest.h>

#include <cstddef>

namespace comet::cuda {
namespace {

constexpr int kNumSms = 132;

TEST(RowLaunch, FewRowsGetMoreThreads) {
  EXPECT_EQ(RowThreads(1, kNumSms), 512);
  EXPECT_EQ(RowThreads(2 * kNumSms, kNumSms), 512);
  EXPECT_EQ(RowThreads(2 * kNumSms + 1, kNumSms), 256);
}

TEST(RowLaunch, AThreadOfAWalkHasAtMost32Channels) {
  EXPECT_EQ(WalkRowThreads(1), 128);
  EXPECT_EQ(WalkRowThreads(4096), 128);
  EXPECT_EQ(WalkRowThreads(4104), 256);
  EXPECT_EQ(WalkRowThreads(8192), 256);
  EXPECT_EQ(WalkRowThreads(8200), 0);
}

TEST(RowLaunch, SpreadCtasFitAnSmAsOftenAsItsShareOfTheGrid) {
  const DeviceLimits limits{.num_sms = kNumSms, .smem_bytes_max = 227 << 10};

  const auto ctas_per_sm = [&](int num_ctas, int64_t smem_bytes) {
    return limits.smem_bytes_max / SpreadSmemBytes(num_ctas, smem_bytes, limits);
  };

  EXPECT_EQ(ctas_per_sm(1, 1000), 1);
  EXPECT_EQ(ctas_per_sm(kNumSms, 1000), 1);
  EXPECT_EQ(ctas_per_sm(kNumSms + 1, 1000), 2);
  EXPECT_EQ(ctas_per_sm(3 * kNumSms, 1000), 3);
  EXPECT_EQ(SpreadSmemBytes(8192, 57344, limits), 57344);
}

TEST(RowLaunch, SharedMemoryHoldsWholeChunks) {
  EXPECT_EQ(RowSmemBytes(4096, /*has_gather=*/false), 4096 * 4);
  EXPECT_EQ(RowSmemBytes(15, /*has_gather=*/false), 16 * 4);
  EXPECT_EQ(RowSmemBytes(15, /*has_gather=*/true), 2 * 16 * 4);
}

TEST(RowLaunch, AlignmentIsThatOfEveryRow) {
  alignas(16) const std::byte data[64] = {};
  TensorShape strided = {2, 8};
  strided.set_stride(0, 24);
  TensorShape single = {1, 8};
  single.set_stride(0, 9);

  EXPECT_TRUE(HasAlignedRows(ConstTensorView(data, DType::kI8, {2, 16}), 16));
  EXPECT_FALSE(HasAlignedRows(ConstTensorView(data, DType::kI8, strided), 16));
  EXPECT_TRUE(HasAlignedRows(ConstTensorView(data, DType::kI8, strided), 8));
  EXPECT_FALSE(HasAlignedRows(ConstTensorView(data + 8, DType::kI8, {2, 16}), 16));
  EXPECT_TRUE(HasAlignedRows(ConstTensorView(data, DType::kI8, single), 16));
}

}  // namespace
}  // namespace comet::cuda
