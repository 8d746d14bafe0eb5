#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "kernels/base/random.h"
#include "kernels/cuda/oracle/naive_linear.h"
#include "tests/kernels/cuda_fixture.h"
#include "tests/kernels/cuda_product.h"

namespace comet {
namespace {

// Products of cuda's `linear` at sizes the scalar reference cannot reach, and in the company they
// keep in a step: behind the op that writes their input, in a graph, in any batch.
class CudaLinearTest : public CudaTest {
 protected:
  std::vector<uint8_t> Run(CudaProduct& product, const PackedLinear& weights, int num_tokens) {
    EXPECT_EQ(ops_->Linear(product.DeviceArgs(weights, num_tokens)), Status::Ok());
    return product.DownloadY(num_tokens);
  }

  // The bytes of 4,096 outputs anywhere, and of all outputs, against what they should be.
  void ExpectExact(const ProductCase& c) {
    CudaProduct product(*device_, c, /*seed=*/41);
    const std::unique_ptr<PackedLinear> weights = product.Pack(*ops_).value();
    const std::unique_ptr<PackedLinear> naive = product.PackNaive().value();

    const std::vector<uint8_t> actual = Run(product, *weights, c.num_tokens);

    ASSERT_EQ(cuda::NaiveLinear(*device_, product.DeviceArgs(*naive, c.num_tokens)), Status::Ok());
    const std::vector<uint8_t> expected = product.DownloadY(c.num_tokens);
    EXPECT_EQ(std::memcmp(actual.data(), expected.data(), expected.size()), 0) << c;
    Random random(43);
    int num_wrong = 0;
    for (int i = 0; i < 4096; ++i) {
      const int token = random.NextInt(c.num_tokens);
      const int output = random.NextInt(c.num_outputs);
      const float y = product.OutputAt(token, output);
      const uint8_t* found =
          actual.data() + token * product.y_row_bytes() + output * BytesOf(c.dtype);
      const Half half = HalfFromFloat(y);
      const bool is_same = c.dtype == DType::kF16 ? std::memcmp(found, &half, 2) == 0
                                                  : std::memcmp(found, &y, 4) == 0;
      num_wrong += is_same ? 0 : 1;
    }
    EXPECT_EQ(num_wrong, 0) << c;
  }
};

const WeightKind kKinds[] = {WeightKind::kW4ax, WeightKind::kInt8};

int Int4Of(WeightKind kind, int num_int4) { return kind == WeightKind::kW4ax ? num_int4 : 0; }

TEST_F(CudaLinearTest, TheOracleHasTheReferencesBits) {
  for (const WeightKind kind : kKinds) {
    for (const ActivationMode mode : {ActivationMode::kMixed, ActivationMode::kInt8}) {
      for (const DType dtype : {DType::kF32, DType::kF16}) {
        for (const auto& [num_inputs, num_int4] :
             {std::pair{64, 0}, {576, 512}, {1536, 384}, {172, 128}}) {
          const ProductCase c{kind, mode, 5, 300, num_inputs, Int4Of(kind, num_int4), dtype};
          CudaProduct product(*device_, c, /*seed=*/47);
          const std::unique_ptr<PackedLinear> naive = product.PackNaive().value();
          const std::unique_ptr<PackedLinear> packed = product.Pack(reference_ops()).value();
          std::vector<uint8_t> expected;
          ASSERT_EQ(reference_ops().Linear(product.HostArgs(*packed, expected)), Status::Ok());

          ASSERT_EQ(cuda::NaiveLinear(*device_, product.DeviceArgs(*naive, c.num_tokens)),
                    Status::Ok());

          EXPECT_EQ(product.DownloadY(c.num_tokens), expected) << c;
        }
      }
    }
  }
}

TEST_F(CudaLinearTest, LargeW4axProductsAreExact) {
  for (const ActivationMode mode : {ActivationMode::kInt8, ActivationMode::kMixed}) {
    for (const int num_tokens : {1, 2, 7, 8, 9, 16, 17, 33, 64, 65, 127, 128, 129, 255, 256, 257}) {
      ExpectExact({WeightKind::kW4ax, mode, num_tokens, 4096, 4096, 3072});
    }
    ExpectExact({WeightKind::kW4ax, mode, 1, 28672, 4096, 3968, DType::kF32});
    ExpectExact({WeightKind::kW4ax, mode, 64, 28672, 4096, 3072});
    ExpectExact({WeightKind::kW4ax, mode, 100, 4096, 14336, 10752});
    ExpectExact({WeightKind::kW4ax, mode, 300, 6144, 4096, 3072});
    ExpectExact({WeightKind::kW4ax, mode, 513, 1000, 8192, 8192, DType::kF32});
    ExpectExact({WeightKind::kW4ax, mode, 77, 4101, 29568, 22144});
    ExpectExact({WeightKind::kW4ax, mode, 1111, 4096, 4096, 0});
    ExpectExact({WeightKind::kW4ax, mode, 8192, 4096, 2048, 1536});
  }
}

// What one call has found out of its arguments must not serve others with the same buffers.
TEST_F(CudaLinearTest, ProductsInTheSameBuffersAreExactInTurn) {
  const ProductCase c{WeightKind::kW4ax, ActivationMode::kInt8, 256, 4096, 1024, 0};
  CudaProduct product(*device_, c, /*seed=*/59);
  const std::unique_ptr<PackedLinear> weights = product.Pack(*ops_).value();
  const std::unique_ptr<PackedLinear> naive = product.PackNaive().value();
  const int64_t y_bytes = c.num_tokens * product.y_row_bytes();
  DeviceBuffer zeros = device_->Allocate(y_bytes).value();
  ASSERT_EQ(device_->FillZero(zeros.data(), y_bytes), Status::Ok());
  const int num_fewer = c.num_tokens / 2;
  const auto cut = [&](LinearArgs& args, DType dtype, int64_t y_row_stride) {
    args.x.codes = args.x.codes.Rows(0, num_fewer);
    args.x.scale = args.x.scale.Rows(0, num_fewer);
    args.x.exponent = args.x.exponent.Rows(0, num_fewer);
    args.x.code_sum = args.x.code_sum.Rows(0, num_fewer);
    TensorShape shape{num_fewer, c.num_outputs};
    shape.set_stride(0, y_row_stride);
    args.y = TensorView(args.y.data(), dtype, shape);
  };
  using Change = std::function<void(LinearArgs&)>;
  const Change as_it_is = [](LinearArgs&) {};
  const Change changes[] = {
      as_it_is,
      [&](LinearArgs& args) { args.residual = TensorView(zeros.data(), c.dtype, args.y.shape()); },
      as_it_is,
      [&](LinearArgs& args) { cut(args, DType::kF16, c.num_outputs); },
      [&](LinearArgs& args) { cut(args, DType::kF16, 2 * c.num_outputs); },
      [&](LinearArgs& args) { cut(args, DType::kF32, c.num_outputs); },
      as_it_is,
  };

  for (const Change& change : changes) {
    LinearArgs naive_args = product.DeviceArgs(*naive, c.num_tokens);
    change(naive_args);
    ASSERT_EQ(cuda::NaiveLinear(*device_, naive_args), Status::Ok());
    const std::vector<uint8_t> expected = product.DownloadY(c.num_tokens);
    LinearArgs args = product.DeviceArgs(*weights, c.num_tokens);
    change(args);

    ASSERT_EQ(ops_->Linear(args), Status::Ok());

    EXPECT_EQ(product.DownloadY(c.num_tokens), expected) << &change - changes;
  }
}

TEST_F(CudaLinearTest, LargeInt8ProductsAreExact) {
  for (const int num_tokens : {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 200}) {
    ExpectExact({WeightKind::kInt8, ActivationMode::kInt8, num_tokens, 4001, 4096, 0, DType::kF32});
  }
  ExpectExact({WeightKind::kInt8, ActivationMode::kInt8, 9, 128256, 4096, 0, DType::kF32});
  ExpectExact({WeightKind::kInt8, ActivationMode::kMixed, 3, 151936, 1536, 0, DType::kF16});
  ExpectExact({WeightKind::kInt8, ActivationMode::kInt8, 8192, 1000, 1024, 0, DType::kF16});
  // More tiles than CTAs, of f32, which leaves registers.
  ExpectExact({WeightKind::kInt8, ActivationMode::kInt8, 260, 20001, 512, 0, DType::kF32});
  ExpectExact({WeightKind::kInt8, ActivationMode::kInt8, 1111, 10000, 128, 0, DType::kF32});
}

TEST_F(CudaLinearTest, ATokensOutputsDoNotDependOnItsBatch) {
  for (const WeightKind kind : kKinds) {
    for (const ActivationMode mode : {ActivationMode::kInt8, ActivationMode::kMixed}) {
      const ProductCase c{kind, mode, 600, 4096, 4096, Int4Of(kind, 3072)};
      CudaProduct product(*device_, c, /*seed=*/53);
      const std::unique_ptr<PackedLinear> weights = product.Pack(*ops_).value();
      const std::vector<uint8_t> together = Run(product, *weights, c.num_tokens);

      for (const int num_tokens :
           {1, 2, 4, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 256, 257, 512}) {
        const std::vector<uint8_t> some = Run(product, *weights, num_tokens);
        EXPECT_EQ(std::memcmp(some.data(), together.data(), some.size()), 0)
            << c << ", the first " << num_tokens << " tokens";
      }
    }
  }
}

TEST_F(CudaLinearTest, RunsRepeat) {
  for (const WeightKind kind : kKinds) {
    for (const int num_tokens : {1, 48, 130, 300}) {
      const ProductCase c{kind, ActivationMode::kInt8, num_tokens, 6144, 4096, Int4Of(kind, 3072)};
      CudaProduct product(*device_, c, /*seed=*/59);
      const std::unique_ptr<PackedLinear> weights = product.Pack(*ops_).value();
      const std::vector<uint8_t> first = Run(product, *weights, num_tokens);

      for (int i = 0; i < 20; ++i) {
        const std::vector<uint8_t> again = Run(product, *weights, num_tokens);
        ASSERT_EQ(std::memcmp(again.data(), first.data(), first.size()), 0) << c << " run " << i;
      }
    }
  }
}

// Norms and products of one layer in turn, as a step issues them: every product's codes were
// written by the launch before it, into the buffer the product before that has just read.
class CudaChain {
 public:
  static constexpr int kNumSteps = 24;
  static constexpr int kChannels = 4096;

  CudaChain(CudaDevice& device, WeightKind kind, int num_tokens)
      : device_(device),
        product_(
            device,
            {kind, ActivationMode::kInt8, num_tokens, kChannels, kChannels, Int4Of(kind, 3072)},
            /*seed=*/61) {
    Random random(67);
    std::vector<float> x(static_cast<size_t>(num_tokens) * kChannels);
    std::vector<float> weight(kChannels);
    for (float& value : weight) value = random.NextFloat(0.5f, 1.5f);
    weight_ = Upload(weight);
    for (int i = 0; i < kNumSteps; ++i) {
      for (float& value : x) value = random.NextFloat(-1.0f, 1.0f);
      x_.push_back(Upload(x));
      y_.push_back(device.Allocate(num_tokens * product_.y_row_bytes()).value());
    }
  }

  CudaProduct& product() { return product_; }

  // `linear` is called after each norm. Neither waits.
  Status Issue(Ops& ops, const PackedLinear& weights,
               const std::function<Status(const LinearArgs&)>& linear) {
    LinearArgs args = product_.DeviceArgsUnpoisoned(weights, product_.shape().num_tokens);
    const int num_tokens = product_.shape().num_tokens;
    for (size_t i = 0; i < x_.size(); ++i) {
      args.y = TensorView(y_[i].data(), args.y.dtype(), args.y.shape());
      COMET_RETURN_IF_ERROR(ops.RmsNorm({.out = args.x,
                                         .x = {x_[i].data(), DType::kF32, {num_tokens, kChannels}},
                                         .weight = {weight_.data(), DType::kF32, {kChannels}},
                                         .epsilon = 1e-5f}));
      COMET_RETURN_IF_ERROR(linear(args));
    }
    return Status::Ok();
  }

  std::vector<uint8_t> Download() {
    std::vector<uint8_t> all;
    for (const DeviceBuffer& y : y_) {
      std::vector<uint8_t> bytes(static_cast<size_t>(y.num_bytes()));
      EXPECT_EQ(device_.CopyToHost(bytes.data(), y.data(), y.num_bytes()), Status::Ok());
      all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
  }

  void Clear() {
    for (const DeviceBuffer& y : y_) {
      EXPECT_EQ(device_.FillZero(y.data(), y.num_bytes()), Status::Ok());
    }
    EXPECT_EQ(device_.Synchronize(), Status::Ok());
  }

 private:
  DeviceBuffer Upload(const std::vector<float>& values) {
    const int64_t num_bytes = static_cast<int64_t>(values.size() * sizeof(float));
    DeviceBuffer buffer = device_.Allocate(num_bytes).value();
    EXPECT_EQ(device_.CopyToDevice(buffer.data(), values.data(), num_bytes), Status::Ok());
    return buffer;
  }

  CudaDevice& device_;
  CudaProduct product_;
  DeviceBuffer weight_;
  std::vector<DeviceBuffer> x_;
  std::vector<DeviceBuffer> y_;
};

TEST_F(CudaLinearTest, ReadsWhatTheLaunchBeforeWrote) {
  for (const WeightKind kind : kKinds) {
    for (const int num_tokens : {1, 16, 130, 300}) {
      CudaChain chain(*device_, kind, num_tokens);
      const std::unique_ptr<PackedLinear> naive = chain.product().PackNaive().value();
      ASSERT_EQ(chain.Issue(*ops_, *naive,
                            [&](const LinearArgs& args) {
                              COMET_RETURN_IF_ERROR(device_->Synchronize());
                              COMET_RETURN_IF_ERROR(cuda::NaiveLinear(*device_, args));
                              return device_->Synchronize();
                            }),
                Status::Ok());
      const std::vector<uint8_t> expected = chain.Download();
      const std::unique_ptr<PackedLinear> weights = chain.product().Pack(*ops_).value();
      const auto linear = [&](const LinearArgs& args) { return ops_->Linear(args); };

      chain.Clear();
      ASSERT_EQ(chain.Issue(*ops_, *weights, linear), Status::Ok());
      const bool streamed_right = chain.Download() == expected;
      EXPECT_TRUE(streamed_right) << "kind " << static_cast<int>(kind) << " M " << num_tokens;

      const CudaGraph graph = CudaGraph::Capture(device_->stream(), [&] {
                                return chain.Issue(*ops_, *weights, linear);
                              }).value();
      for (int replay = 0; replay < 3; ++replay) {
        chain.Clear();
        ASSERT_EQ(graph.Launch(device_->stream()), Status::Ok());
        const bool replayed_right = chain.Download() == expected;
        EXPECT_TRUE(replayed_right) << "kind " << static_cast<int>(kind) << " M " << num_tokens;
      }
    }
  }
}

TEST_F(CudaLinearTest, RowsOfCodesAtOddAddressesAreRefusedByName) {
  for (const WeightKind kind : kKinds) {
    const ProductCase c{kind, ActivationMode::kInt8, 5, 64, 172, Int4Of(kind, 128)};
    CudaProduct product(*device_, c, /*seed=*/71);
    const std::unique_ptr<PackedLinear> weights = product.Pack(*ops_).value();

    const Status status = ops_->Linear(product.DeviceArgs(*weights, c.num_tokens));

    EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
    EXPECT_NE(status.message().find("codes"), std::string::npos) << status;
    EXPECT_NE(status.message().find("16"), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace comet
