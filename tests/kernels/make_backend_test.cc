#include "kernels/make_backend.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/cpu/isa.h"

namespace comet {
namespace {

TEST(MakeBackend, RefusesUnknownNames) {
  EXPECT_EQ(MakeBackend({.device = "tpu"}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeBackend({.device = "cpu", .cpu_isa = "avx9"}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeBackend({.num_threads = -1}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeBackend({.num_threads = 1025}).status().code(), StatusCode::kInvalidArgument);
}

TEST(MakeBackend, DescribesWhatItMade) {
  const Backend scalar = MakeBackend({.cpu_isa = "scalar", .num_threads = 3}).value();
  const Backend reference = MakeBackend({.device = "reference"}).value();

  EXPECT_EQ(scalar.device->description(), "cpu (scalar, 3 threads)");
  EXPECT_NE(scalar.ops->KernelDescription().find("linear: scalar"), std::string::npos);
  EXPECT_EQ(reference.device->description(), "reference (scalar)");
  EXPECT_TRUE(reference.device->is_host());
}

TEST(MakeBackend, ChoosesTheWidestInstructionSetThatRuns) {
  const cpu::Isa widest = cpu::ChooseIsa("auto").value();

  EXPECT_TRUE(cpu::IsSupported(widest));
  for (const cpu::Isa isa : {cpu::Isa::kScalar, cpu::Isa::kAvx2, cpu::Isa::kAvx512Vnni}) {
    EXPECT_TRUE(!cpu::IsSupported(isa) || widest >= isa);
    const StatusCode expected =
        cpu::IsSupported(isa) ? StatusCode::kOk : StatusCode::kUnimplemented;
    EXPECT_EQ(cpu::ChooseIsa(cpu::ToString(isa)).status().code(), expected);
  }
}

TEST(MakeBackend, CudaIsAnErrorWhereThereIsNone) {
  const Result<Backend> backend = MakeBackend({.device = "cuda"});

  if (backend.ok()) GTEST_SKIP() << "a GPU answers: " << backend->device->description();
  EXPECT_TRUE(backend.status().code() == StatusCode::kUnimplemented ||
              backend.status().code() == StatusCode::kInternal)
      << backend.status();
}

TEST(HostDevice, AlignsAndCopies) {
  const Backend backend = MakeBackend({}).value();
  const char sent[] = "sixteen bytes...";
  char received[sizeof(sent)] = {};

  const DeviceBuffer buffer = backend.device->Allocate(sizeof(sent)).value();
  ASSERT_EQ(backend.device->CopyToDevice(buffer.data(), sent, sizeof(sent)), Status::Ok());
  ASSERT_EQ(backend.device->CopyToHost(received, buffer.data(), sizeof(sent)), Status::Ok());

  EXPECT_STREQ(received, sent);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 256, 0u);
  EXPECT_EQ(backend.device->Allocate(0).value().num_bytes(), 0);
}

TEST(HostDevice, TooLargeAnAllocationNamesBothSizes) {
  const Backend backend = MakeBackend({}).value();
  const int64_t num_bytes = int64_t{1} << 50;

  const Status status = backend.device->Allocate(num_bytes).status();

  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find(std::to_string(num_bytes)), std::string::npos) << status;
  EXPECT_NE(status.message().find("bytes free"), std::string::npos) << status;
}

TEST(HostDevice, KnowsItsMemory) {
  const DeviceMemory memory = MakeBackend({}).value().device->QueryMemory().value();

  EXPECT_GT(memory.free_bytes, 0);
  EXPECT_LE(memory.free_bytes, memory.total_bytes);
  EXPECT_LT(memory.total_bytes, std::numeric_limits<int64_t>::max());
}

}  // namespace
}  // namespace comet
