#include <gtest/gtest.h>

#include "kernels/cuda/oracle/silu_values.h"
#include "tests/kernels/cuda_fixture.h"

namespace comet {
namespace {

using CudaSiluTest = CudaTest;

TEST_F(CudaSiluTest, TheShortDivisionHasADivisionsBitsForEveryGate) {
  const cuda::SiluGates gates = cuda::CompareSiluGates(*device_).value();
  EXPECT_EQ(gates.num_compared, 2 * (0x5500 + 1));  // 0x5500 is 80.
  EXPECT_EQ(gates.num_different, 0);
}

// Few rows ask for much more shared memory than many, of the same kernel.
TEST_F(CudaSiluTest, OpsOfOneDeviceLeaveEachOtherTheirSharedMemory) {
  constexpr int kRows = 1000;
  constexpr int kFewRows = 64;
  constexpr int kChannels = 16384;
  const auto allocate = [&](DType dtype, const TensorShape& shape, DeviceBuffer& buffer) {
    const int64_t num_bytes = shape.num_elements() * BytesOf(dtype);
    buffer = device_->Allocate(num_bytes).value();
    EXPECT_EQ(device_->FillZero(buffer.data(), num_bytes), Status::Ok());
    return TensorView(buffer.data(), dtype, shape);
  };
  DeviceBuffer buffers[5];
  const TensorView gate_up = allocate(DType::kF16, {kRows, 2 * kChannels}, buffers[0]);
  LinearInput out;
  out.format.mode = ActivationMode::kInt8;
  out.codes = allocate(DType::kI8, {kRows, kChannels}, buffers[1]);
  out.scale = allocate(DType::kF32, {kRows}, buffers[2]);
  out.exponent = allocate(DType::kI32, {kRows}, buffers[3]);
  out.code_sum = allocate(DType::kI32, {kRows, 2}, buffers[4]);
  const auto run = [&](CudaOps& ops, int num_rows) {
    LinearInput rows = out;
    rows.codes = out.codes.Rows(0, num_rows);
    rows.scale = out.scale.Rows(0, num_rows);
    rows.exponent = out.exponent.Rows(0, num_rows);
    rows.code_sum = out.code_sum.Rows(0, num_rows);
    return ops.SiluMul({.out = rows, .gate_up = gate_up.Rows(0, num_rows)});
  };
  const std::unique_ptr<CudaOps> first = CudaOps::Create(*device_).value();
  const std::unique_ptr<CudaOps> second = CudaOps::Create(*device_).value();

  EXPECT_EQ(run(*first, kFewRows), Status::Ok());
  EXPECT_EQ(run(*second, kRows), Status::Ok());
  EXPECT_EQ(run(*first, kFewRows), Status::Ok());

  EXPECT_EQ(device_->Synchronize(), Status::Ok());
}

}  // namespace
}  // namespace comet
