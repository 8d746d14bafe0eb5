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
  constexpr int64_t kSystemBytes = 1024;  // Of each CTA.
  constexpr int64_t kStaticBytes = 1024;  // No kernel here has more.
  for (const int64_t cta_bytes_max : {99 << 10, 163 << 10, 227 << 10}) {
    const DeviceLimits limits{.num_sms = kNumSms, .smem_bytes_max = cta_bytes_max};
    const int64_t sm_bytes = cta_bytes_max + kSystemBytes;
    for (const int share : {1, 2, 3}) {
      const int64_t bytes = SpreadSmemBytes(share * kNumSms, 1000, limits);

      EXPECT_LE(bytes + kStaticBytes, cta_bytes_max) << share;
      EXPECT_LE(share * (bytes + kStaticBytes + kSystemBytes), sm_bytes) << share;
      EXPECT_GT((share + 1) * (bytes + kSystemBytes), sm_bytes) << share;
    }
    EXPECT_EQ(SpreadSmemBytes(kNumSms + 1, 1000, limits),
              SpreadSmemBytes(2 * kNumSms, 1000, limits));
  }
  const DeviceLimits limits{.num_sms = kNumSms, .smem_bytes_max = 227 << 10};
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
