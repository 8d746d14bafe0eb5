#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/make_backend.h"
#include "tests/kernels/test_backends.h"

namespace comet {
namespace {

class CudaDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<Backend> backend = MakeBackend({.device = "cuda"});
    if (!backend.ok()) COMET_END_WITHOUT_GPU(backend.status().message());
    backend_ = std::move(backend).value();
  }

  Backend backend_;
};

TEST_F(CudaDeviceTest, CopiesGoThereAndBack) {
  std::vector<uint8_t> sent(100'003);
  std::iota(sent.begin(), sent.end(), uint8_t{1});
  std::vector<uint8_t> received(sent.size());
  const int64_t num_bytes = static_cast<int64_t>(sent.size());

  const DeviceBuffer buffer = backend_.device->Allocate(num_bytes).value();
  ASSERT_EQ(backend_.device->CopyToDevice(buffer.data(), sent.data(), num_bytes), Status::Ok());
  ASSERT_EQ(backend_.device->CopyToHost(received.data(), buffer.data(), num_bytes), Status::Ok());

  EXPECT_EQ(received, sent);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 256, 0u);
}

TEST_F(CudaDeviceTest, FillZeroClears) {
  std::vector<uint8_t> bytes(1000, 7);
  const DeviceBuffer buffer = backend_.device->Allocate(1000).value();
  ASSERT_EQ(backend_.device->CopyToDevice(buffer.data(), bytes.data(), 1000), Status::Ok());

  ASSERT_EQ(backend_.device->FillZero(buffer.data(), 1000), Status::Ok());
  ASSERT_EQ(backend_.device->CopyToHost(bytes.data(), buffer.data(), 1000), Status::Ok());

  EXPECT_EQ(bytes, std::vector<uint8_t>(1000, 0));
  EXPECT_EQ(backend_.device->Synchronize(), Status::Ok());
}

TEST_F(CudaDeviceTest, TooLargeAnAllocationNamesBothSizes) {
  const DeviceMemory memory = backend_.device->QueryMemory().value();
  const int64_t num_bytes = 4 * memory.total_bytes;

  const Status status = backend_.device->Allocate(num_bytes).status();

  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find(std::to_string(num_bytes)), std::string::npos);
  EXPECT_NE(status.message().find("bytes free"), std::string::npos);
  EXPECT_TRUE(backend_.device->Allocate(1024).ok());
}

TEST_F(CudaDeviceTest, AGraphReplaysWhatItCaptured) {
  const std::unique_ptr<CudaDevice> device = CudaDevice::Create(/*device_idx=*/0).value();
  std::vector<uint8_t> bytes(1000, 7);
  const DeviceBuffer buffer = device->Allocate(1000).value();

  const CudaGraph graph = CudaGraph::Capture(device->stream(), [&] {
                            return device->FillZero(buffer.data(), 1000);
                          }).value();
  ASSERT_EQ(device->CopyToDevice(buffer.data(), bytes.data(), 1000), Status::Ok());
  ASSERT_EQ(graph.Launch(device->stream()), Status::Ok());
  ASSERT_EQ(device->CopyToHost(bytes.data(), buffer.data(), 1000), Status::Ok());

  EXPECT_EQ(bytes, std::vector<uint8_t>(1000, 0));
}

TEST_F(CudaDeviceTest, AFailedCaptureLeavesTheStreamUsable) {
  const std::unique_ptr<CudaDevice> device = CudaDevice::Create(/*device_idx=*/0).value();
  const DeviceBuffer buffer = device->Allocate(1000).value();

  const Status refused =
      CudaGraph::Capture(device->stream(), [] { return InvalidArgument("not this"); }).status();
  const Status waited =
      CudaGraph::Capture(device->stream(), [&] { return device->Synchronize(); }).status();

  EXPECT_EQ(refused, InvalidArgument("not this"));
  EXPECT_EQ(waited.code(), StatusCode::kInternal) << waited;
  EXPECT_EQ(device->FillZero(buffer.data(), 1000), Status::Ok());
  EXPECT_EQ(device->Synchronize(), Status::Ok());
}

TEST_F(CudaDeviceTest, EventsMeasureWhatLiesBetweenThem) {
  const std::unique_ptr<CudaDevice> device = CudaDevice::Create(/*device_idx=*/0).value();
  constexpr int64_t kNumBytes = 256 << 20;
  const DeviceBuffer buffer = device->Allocate(kNumBytes).value();
  const CudaEvent begin = CudaEvent::Create().value();
  const CudaEvent end = CudaEvent::Create().value();

  ASSERT_EQ(begin.Record(device->stream()), Status::Ok());
  ASSERT_EQ(device->FillZero(buffer.data(), kNumBytes), Status::Ok());
  ASSERT_EQ(end.Record(device->stream()), Status::Ok());

  const double us = end.MicrosecondsSince(begin).value();
  EXPECT_GT(us, 20.0);  // No card writes 13 TB/s.
  EXPECT_LT(us, 1e6);
}

TEST_F(CudaDeviceTest, AnOpWithoutAKernelNamesOpShapeAndDevice) {
  const DeviceBuffer buffer = backend_.device->Allocate(3 * 64 * 4).value();
  const TensorView logits(buffer.data(), DType::kF32, {3, 64});
  const std::vector<float> values(64 * 64, 1.0f);
  const std::unique_ptr<PackedLinear> weights =
      backend_.ops->PackLinear(FloatWeights{.values = {values.data(), DType::kF32, {64, 64}}})
          .value();

  const Status status = backend_.ops->Linear(
      {.y = logits, .x = {.format = {}, .values = logits}, .weights = weights.get()});

  EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
  EXPECT_NE(status.message().find("linear: [3, 64]"), std::string::npos) << status;
  EXPECT_NE(status.message().find("cuda:0"), std::string::npos) << status;
}

}  // namespace
}  // namespace comet
