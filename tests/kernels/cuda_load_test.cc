#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/cuda/oracle/sm80_host_units.h"
#include "kernels/cuda/oracle/sm90_host_units.h"
#include "kernels/cuda/row_weights.h"
#include "kernels/cuda/sm80_linear.h"
#include "kernels/cuda/sm90_gemm.h"
#include "kernels/cuda/sm90_linear.h"
#include "kernels/cuda/staged_upload.h"
#include "tests/kernels/cuda_fixture.h"

namespace comet {
namespace {

using cuda::RowWeights;
using cuda::StagedUpload;

// What is made on the device is held, byte for byte, to what the host makes.
class CudaLoadTest : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (device_ == nullptr) return;
    Result<StagedUpload> upload = StagedUpload::Create(*device_);
    ASSERT_EQ(upload.status(), Status::Ok());
    upload_.emplace(std::move(upload).value());
  }

  std::vector<uint8_t> Fetch(const void* data, size_t num_bytes) {
    std::vector<uint8_t> bytes(num_bytes, 0xcd);
    EXPECT_EQ(device_->CopyToHost(bytes.data(), data, static_cast<int64_t>(num_bytes)),
              Status::Ok());
    return bytes;
  }

  void ExpectUnits(const cuda::UnitLinear& packed, const std::vector<uint8_t>& units,
                   const HostRandomLinear& host) {
    EXPECT_TRUE(Fetch(packed.units(), units.size()) == units);
    const size_t num_scales = static_cast<size_t>(packed.num_unit_rows()) * cuda::kUnitOutputs;
    std::vector<float> scale(num_scales);
    std::copy(host.scale.begin(), host.scale.end(), scale.begin());
    std::vector<uint8_t> bytes(num_scales * sizeof(float));
    std::memcpy(bytes.data(), scale.data(), bytes.size());
    EXPECT_TRUE(Fetch(packed.scale(), bytes.size()) == bytes);
  }

  // Rows at their stride, compared without what lies between them.
  void ExpectRows(const RowWeights& packed, const void* host) {
    const ConstTensorView& rows = packed.rows();
    const size_t element_bytes = static_cast<size_t>(BytesOf(rows.dtype()));
    const size_t row_bytes = static_cast<size_t>(rows.dim(1)) * element_bytes;
    const size_t stride_bytes = static_cast<size_t>(rows.stride(0)) * element_bytes;
    const std::vector<uint8_t> bytes =
        Fetch(rows.data(), static_cast<size_t>(rows.dim(0)) * stride_bytes);
    int num_wrong = 0;
    for (int n = 0; n < rows.dim(0); ++n) {
      num_wrong +=
          std::memcmp(bytes.data() + static_cast<size_t>(n) * stride_bytes,
                      static_cast<const uint8_t*>(host) + static_cast<size_t>(n) * row_bytes,
                      row_bytes) != 0;
    }
    EXPECT_EQ(num_wrong, 0);
  }

  std::optional<StagedUpload> upload_;
};

// One unit and less; K short of a block; more than one piece of the upload's buffers.
constexpr RandomLinear kUnitCases[] = {
    {.num_outputs = 64, .num_inputs = 128, .num_int4_channels = 128, .seed = 1},
    {.num_outputs = 1, .num_inputs = 66, .num_int4_channels = 0, .seed = 2},
    {.num_outputs = 130, .num_inputs = 576, .num_int4_channels = 256, .seed = 3},
    {.num_outputs = 63, .num_inputs = 1538, .num_int4_channels = 1408, .seed = 4},
    {.num_outputs = 5000, .num_inputs = 14336, .num_int4_channels = 10752, .seed = 5},
};

TEST_F(CudaLoadTest, UnitsAreTheHostsWhereverTheRowsCameFrom) {
  if (sm90::W4axGemm::Create().status().code() == StatusCode::kUnimplemented) {
    GTEST_SKIP() << "the units of sm_90 are made and read on Hopper alone";
  }
  for (const RandomLinear& linear : kUnitCases) {
    SCOPED_TRACE(linear.num_outputs);
    const HostRandomLinear host = MakeHostRandomLinear(linear);
    const std::vector<uint8_t> units = sm90::PackUnitsOnHost(host.w4ax());

    const auto packed = sm90::W4axLinear::Pack(*upload_, host.w4ax());
    const auto random = sm90::W4axLinear::PackRandom(*upload_, linear);

    ASSERT_EQ(packed.status(), Status::Ok());
    ASSERT_EQ(random.status(), Status::Ok());
    ExpectUnits(**packed, units, host);
    ExpectUnits(**random, units, host);
  }
}

TEST_F(CudaLoadTest, AmperesUnitsAreTheHostsWhereverTheRowsCameFrom) {
  for (const RandomLinear& linear : kUnitCases) {
    SCOPED_TRACE(linear.num_outputs);
    const HostRandomLinear host = MakeHostRandomLinear(linear);
    const std::vector<uint8_t> units = sm80::PackUnitsOnHost(host.w4ax());

    const auto packed = sm80::W4axLinear::Pack(*upload_, host.w4ax());
    const auto random = sm80::W4axLinear::PackRandom(*upload_, linear);

    ASSERT_EQ(packed.status(), Status::Ok());
    ASSERT_EQ(random.status(), Status::Ok());
    ExpectUnits(**packed, units, host);
    ExpectUnits(**random, units, host);
  }
}

TEST_F(CudaLoadTest, TablesAreTheHostsWhereverTheRowsCameFrom) {
  for (const WeightKind kind : {WeightKind::kInt8, WeightKind::kFloat}) {
    for (const auto& [num_outputs, num_inputs] : {std::pair(3, 10), std::pair(20000, 1026)}) {
      const RandomLinear linear{
          .kind = kind, .num_outputs = num_outputs, .num_inputs = num_inputs, .seed = 6};
      const HostRandomLinear host = MakeHostRandomLinear(linear);
      const bool is_int8 = kind == WeightKind::kInt8;

      const auto packed = is_int8 ? RowWeights::Create(*upload_, host.int8())
                                  : RowWeights::Create(*upload_, host.floats());
      const auto random = RowWeights::CreateRandom(*upload_, linear);

      ASSERT_EQ(packed.status(), Status::Ok());
      ASSERT_EQ(random.status(), Status::Ok());
      for (const RowWeights* weights : {packed->get(), random->get()}) {
        ExpectRows(*weights, is_int8 ? static_cast<const void*>(host.codes.data())
                                     : static_cast<const void*>(host.values.data()));
        if (!is_int8) continue;
        const std::vector<uint8_t> scale = Fetch(weights->scale(), host.scale.size() * 4);
        EXPECT_EQ(std::memcmp(scale.data(), host.scale.data(), scale.size()), 0);
      }
    }
  }
}

}  // namespace
}  // namespace comet
