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

TEST(RowLaunch, WalksOverNarrowRowsAlwaysAndOverWideOnesWhileTheyAreFew) {
  EXPECT_TRUE(TakesHeld(8192, 4096, kNumSms));
  EXPECT_TRUE(TakesHeld(16 * kNumSms, 4104, kNumSms));
  EXPECT_FALSE(TakesHeld(16 * kNumSms + 1, 4104, kNumSms));
  EXPECT_FALSE(TakesHeld(1, 8200, kNumSms));  // More than two chunks a thread.
}

TEST(RowLaunch, NoWalkHasMoreCtasThanRowsOrThanFit) {
  EXPECT_EQ(HeldGridSize(5, 4096, kNumSms), 5u);
  EXPECT_EQ(HeldGridSize(8192, 4096, kNumSms), 2u * kNumSms);
  EXPECT_EQ(HeldGridSize(8192, 8192, kNumSms), 1u * kNumSms);
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
