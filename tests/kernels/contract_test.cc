// Each error that a contract of kernels/ops/ lists, by the rule that is broken; those of the KV
// cache are in kv_contract_test.cc.
#include <gtest/gtest.h>

#include <limits>

#include "kernels/ops.h"
#include "tests/kernels/contract_views.h"
#include "tests/kernels/linear_tensors.h"
#include "tests/kernels/test_backends.h"

namespace comet {
namespace {

LinearInput CodesOf(int num_tokens, int num_channels, int num_int4 = 0,
                    ActivationMode mode = ActivationMode::kMixed) {
  return {.format = {.mode = mode, .num_int4_channels = num_int4},
          .codes = ViewOf(DType::kI8, {num_tokens, num_channels}),
          .scale = F32({num_tokens}),
          .exponent = I32({num_tokens}),
          .code_sum = I32({num_tokens, 2})};
}

LinearInput ValuesOf(int num_tokens, int num_channels) {
  return {.format = {}, .values = F32({num_tokens, num_channels})};
}

TEST(ExponentMax, IsTheLargestThatFitsThirtyOneBits) {
  const auto largest = [](ActivationMode mode, int64_t num_int4, int64_t num_int8, int exponent) {
    const int64_t limit = mode == ActivationMode::kMixed ? 7 : 127;
    return ((num_int8 * 127 * 128) << exponent) + num_int4 * limit * 128;
  };
  for (const ActivationMode mode : {ActivationMode::kMixed, ActivationMode::kInt8}) {
    for (const int num_int4 : {0, 128, 1408, 14208}) {
      for (const int num_int8 : {0, 64, 128, 1024, 4096, 16384}) {
        const int exponent = ExponentMax(mode, num_int4, num_int8);

        EXPECT_LT(largest(mode, num_int4, num_int8, exponent), int64_t{1} << 31);
        if (exponent < kExponentMax) {
          EXPECT_GE(largest(mode, num_int4, num_int8, exponent + 1), int64_t{1} << 31);
        }
      }
    }
  }
  EXPECT_EQ(ExponentMax(ActivationMode::kMixed, 512, 64), 7);
}

TEST(LinearInputContract, AcceptsItsShapes) {
  EXPECT_EQ(Validate("op", CodesOf(3, 172, 128)), Status::Ok());
  EXPECT_EQ(Validate("op", ValuesOf(0, 5)), Status::Ok());
}

TEST(LinearInputContract, ReportsFormat) {
  EXPECT_TRUE(IsInvalid(Validate("op", CodesOf(3, 172, 100)), "multiple of 128"));
  EXPECT_TRUE(IsInvalid(Validate("op", CodesOf(3, 172, 256)), "num_int4_channels is 256"));
  EXPECT_TRUE(IsInvalid(Validate("op", CodesOf(3, 172, -128)), "num_int4_channels is -128"));
  LinearInput input = CodesOf(3, 172, 128);
  input.format.exponent_max = 8;
  EXPECT_TRUE(IsInvalid(Validate("op", input), "exponent_max is 8"));
  input.format.exponent_max = -1;
  EXPECT_TRUE(IsInvalid(Validate("op", input), "exponent_max is -1"));
  for (const float clip : {0.0f, 1.5f, std::numeric_limits<float>::quiet_NaN()}) {
    input = CodesOf(3, 172, 128);
    input.format.clip = clip;
    EXPECT_TRUE(IsInvalid(Validate("op", input), "clip is"));
  }
  EXPECT_TRUE(IsInvalid(Validate("op", CodesOf(0, 1 << 18)), "31 bits"));
  input = CodesOf(3, 172, 128);
  input.format.mode = ActivationMode::kInt8;
  input.format.packs_int4 = true;
  EXPECT_TRUE(IsInvalid(Validate("op", input), "packs_int4 is set"));
}

TEST(LinearInputContract, ReportsTensors) {
  LinearInput input = CodesOf(3, 172);
  input.codes = ViewOf(DType::kU8, {3, 172});
  EXPECT_TRUE(IsInvalid(Validate("op", input), "codes is u8"));
  input = CodesOf(3, 172);
  input.scale = F32({4});
  EXPECT_TRUE(IsInvalid(Validate("op", input), "scale is [4]"));
  input = CodesOf(3, 172);
  input.exponent = F32({3});
  EXPECT_TRUE(IsInvalid(Validate("op", input), "exponent is f32"));
  input = CodesOf(3, 172);
  input.code_sum = {};
  EXPECT_TRUE(IsInvalid(Validate("op", input), "code_sum has rank 0"));
  input.code_sum = I32({3, 1});
  EXPECT_TRUE(IsInvalid(Validate("op", input), "code_sum is [3, 1]"));
  input = ValuesOf(3, 172);
  input.values = WithInnerStride(input.values, 2);
  EXPECT_TRUE(IsInvalid(Validate("op", input), "innermost stride is 2"));
  input.values = ViewOf(DType::kBf16, {3, 172});
  EXPECT_TRUE(IsInvalid(Validate("op", input), "values is bf16"));
}

class LinearContract : public ::testing::Test {
 protected:
  std::unique_ptr<PackedLinear> Pack(WeightKind kind, int num_int4 = 0) {
    Random random(1);
    return WeightTensors(kind, 8, 172, num_int4, random).Pack(reference_ops()).value();
  }
};

TEST_F(LinearContract, ReportsShapesAndDTypes) {
  const std::unique_ptr<PackedLinear> weights = Pack(WeightKind::kInt8);
  const LinearArgs good{.y = F32({3, 8}), .x = CodesOf(3, 172), .weights = weights.get()};
  ASSERT_EQ(Validate(good), Status::Ok());

  LinearArgs args = good;
  args.weights = nullptr;
  EXPECT_TRUE(IsInvalid(Validate(args), "weights are absent"));
  args = good;
  args.y = F32({3, 9});
  EXPECT_TRUE(IsInvalid(Validate(args), "y is [3, 9]"));
  args = good;
  args.y = I32({3, 8});
  EXPECT_TRUE(IsInvalid(Validate(args), "y is i32"));
  args = good;
  args.x = CodesOf(3, 170);
  EXPECT_TRUE(IsInvalid(Validate(args), "x has 170 channels"));
  args = good;
  args.residual = ViewOf(DType::kF16, {3, 8});
  EXPECT_TRUE(IsInvalid(Validate(args), "residual is f16"));
  args = good;
  args.residual = F32({2, 8});
  EXPECT_TRUE(IsInvalid(Validate(args), "residual is [2, 8]"));
  args = good;
  args.bias = F32({3});
  EXPECT_TRUE(IsInvalid(Validate(args), "bias is [3]"));
}

TEST_F(LinearContract, ReportsThePairingOfInputAndWeights) {
  const std::unique_ptr<PackedLinear> w4ax = Pack(WeightKind::kW4ax, 128);
  const std::unique_ptr<PackedLinear> int8 = Pack(WeightKind::kInt8);
  const std::unique_ptr<PackedLinear> floats = Pack(WeightKind::kFloat);
  const auto check = [](const PackedLinear& weights, const LinearInput& x) {
    return Validate(LinearArgs{.y = F32({3, 8}), .x = x, .weights = &weights});
  };

  EXPECT_TRUE(IsInvalid(check(*w4ax, ValuesOf(3, 172)), "expected codes as the weights are w4ax"));
  EXPECT_TRUE(IsInvalid(check(*w4ax, CodesOf(3, 172, 0)), "x has 0 INT4 channels"));
  EXPECT_TRUE(IsInvalid(check(*int8, ValuesOf(3, 172)), "expected codes as the weights are int8"));
  EXPECT_TRUE(IsInvalid(check(*int8, CodesOf(3, 172, 128)), "expected 0"));
  EXPECT_TRUE(IsInvalid(check(*floats, CodesOf(3, 172)), "expected values"));
  EXPECT_EQ(check(*w4ax, CodesOf(3, 172, 128, ActivationMode::kInt8)), Status::Ok());
}

TEST(WeightsContract, ReportsW4axWeights) {
  Random random(2);
  const WeightTensors good(WeightKind::kW4ax, 4, 172, 128, random);
  const auto pack = [](const WeightTensors& weights) {
    return weights.Pack(reference_ops()).status();
  };
  ASSERT_EQ(pack(good), Status::Ok());

  WeightTensors weights = good;
  weights.steps.Set(2, 1, 17);
  EXPECT_TRUE(IsInvalid(pack(weights), "a step is 17"));
  weights.steps.Set(2, 1, -16);
  EXPECT_TRUE(IsInvalid(pack(weights), "a step is -16"));
  for (const double scale : {0.0, -1.0, std::numeric_limits<double>::infinity(),
                             std::numeric_limits<double>::quiet_NaN()}) {
    weights = good;
    weights.scale.Set(0, 3, scale);
    EXPECT_TRUE(IsInvalid(pack(weights), "scale of row 3"));
  }
  weights = good;
  weights.num_int4 = 100;
  EXPECT_TRUE(IsInvalid(pack(weights), "num_int4_channels is 100"));
  weights = good;
  weights.steps = HostTensor(DType::kI8, {4, 3});
  EXPECT_TRUE(IsInvalid(pack(weights), "steps have 3 blocks, expected 2"));
  weights = good;
  weights.codes = HostTensor(DType::kI8, {4, 86});
  EXPECT_TRUE(IsInvalid(pack(weights), "codes is i8"));
}

TEST(WeightsContract, ReportsInt8AndFloatWeights) {
  Random random(3);
  WeightTensors weights(WeightKind::kInt8, 4, 16, 0, random);
  weights.codes.Set(1, 1, -128);
  EXPECT_TRUE(IsInvalid(weights.Pack(reference_ops()).status(), "a code is -128"));
  weights.codes.Set(1, 1, -127);
  weights.scale.Set(0, 0, std::numeric_limits<double>::infinity());
  EXPECT_TRUE(IsInvalid(weights.Pack(reference_ops()).status(), "scale of row 0"));
  EXPECT_TRUE(IsInvalid(Validate(FloatWeights{.values = I32({4, 16})}), "values is i32"));
  EXPECT_TRUE(IsInvalid(Validate(FloatWeights{.values = F32({4})}), "rank 1"));
}

TEST(RmsNormContract, ReportsItsErrors) {
  const RmsNormArgs good{
      .out = CodesOf(3, 64), .x = F32({3, 64}), .weight = F32({64}), .epsilon = 1e-5f};
  ASSERT_EQ(Validate(good), Status::Ok());

  RmsNormArgs args = good;
  args.x = F32({3, 65});
  EXPECT_TRUE(IsInvalid(Validate(args), "x is [3, 65]"));
  args = good;
  args.x = I32({3, 64});
  EXPECT_TRUE(IsInvalid(Validate(args), "x is i32"));
  args = good;
  args.weight = ViewOf(DType::kF16, {64});
  EXPECT_TRUE(IsInvalid(Validate(args), "weight is f16"));
  args = good;
  args.gather = I32({63});
  EXPECT_TRUE(IsInvalid(Validate(args), "gather is [63]"));
  args = good;
  args.gather = F32({64});
  EXPECT_TRUE(IsInvalid(Validate(args), "gather is f32"));
  args = good;
  args.epsilon = 0.0f;
  EXPECT_TRUE(IsInvalid(Validate(args), "epsilon is not positive"));
}

TEST(GatherContract, ReportsItsErrors) {
  GatherArgs args{.out = CodesOf(3, 64), .x = F32({2, 64})};
  EXPECT_TRUE(IsInvalid(Validate(args), "x is [2, 64]"));
  args.x = WithInnerStride(F32({3, 64}), 2);
  EXPECT_TRUE(IsInvalid(Validate(args), "innermost stride"));
  args.x = F32({3, 64});
  args.gather = I32({3});
  EXPECT_TRUE(IsInvalid(Validate(args), "gather is [3]"));
}

TEST(SiluMulContract, ReportsItsErrors) {
  SiluMulArgs args{.out = CodesOf(3, 64), .gate_up = F32({3, 127})};
  EXPECT_TRUE(IsInvalid(Validate(args), "2 * ffn_size is 127"));
  args.gate_up = I32({3, 128});
  EXPECT_TRUE(IsInvalid(Validate(args), "gate_up is i32"));
  args = {.out = CodesOf(3, 192), .gate_up = F32({3, 384}), .num_hadamard_channels = 128};
  EXPECT_EQ(Validate(args), Status::Ok());
  args.num_hadamard_channels = 64;
  EXPECT_TRUE(IsInvalid(Validate(args), "num_hadamard_channels is 64"));
  args.num_hadamard_channels = 256;
  EXPECT_TRUE(IsInvalid(Validate(args), "num_hadamard_channels is 256"));
}

TEST(EmbeddingContract, ReportsItsErrors) {
  Random random(4);
  const auto table =
      WeightTensors(WeightKind::kInt8, 9, 64, 0, random).Pack(reference_ops()).value();
  const auto w4ax =
      WeightTensors(WeightKind::kW4ax, 9, 64, 0, random).Pack(reference_ops()).value();
  const EmbeddingArgs good{.out = F32({2, 64}), .ids = I32({2}), .table = table.get()};
  ASSERT_EQ(Validate(good), Status::Ok());

  EmbeddingArgs args = good;
  args.table = nullptr;
  EXPECT_TRUE(IsInvalid(Validate(args), "table is absent"));
  args.table = w4ax.get();
  EXPECT_TRUE(IsInvalid(Validate(args), "table is w4ax"));
  args = good;
  args.out = F32({2, 63});
  EXPECT_TRUE(IsInvalid(Validate(args), "hidden_size is 63"));
  args = good;
  args.ids = F32({2});
  EXPECT_TRUE(IsInvalid(Validate(args), "ids is f32"));
}

SampleArgs GoodSample() {
  return {.token = I32({2}),
          .logprob = F32({2}),
          .nonfinite_count = I32({2}),
          .top_ids = I32({2, 3}),
          .top_logprobs = F32({2, 3}),
          .logits = F32({2, 30}),
          .temperature = F32({2}),
          .top_k = I32({2}),
          .top_p = F32({2}),
          .min_p = F32({2}),
          .repetition_penalty = F32({2}),
          .presence_penalty = F32({2}),
          .frequency_penalty = F32({2}),
          .uniform = F32({2}),
          .history_start = I32({3}),
          .history_ids = I32({0}),
          .history_counts = I32({0}),
          .bias_start = I32({3}),
          .bias_ids = I32({4}),
          .bias_values = F32({4})};
}

TEST(SampleContract, ReportsItsErrors) {
  const SampleArgs good = GoodSample();
  ASSERT_EQ(Validate(good), Status::Ok());

  SampleArgs args = good;
  args.logits = ViewOf(DType::kF16, {2, 30});
  EXPECT_TRUE(IsInvalid(Validate(args), "logits is f16"));
  args = good;
  args.logits = F32({2, 0});
  EXPECT_TRUE(IsInvalid(Validate(args), "vocab_size is 0"));
  args = good;
  args.temperature = F32({3});
  EXPECT_TRUE(IsInvalid(Validate(args), "temperature is [3]"));
  args = good;
  args.top_k = F32({2});
  EXPECT_TRUE(IsInvalid(Validate(args), "top_k is f32"));
  args = good;
  args.token = F32({2});
  EXPECT_TRUE(IsInvalid(Validate(args), "token is f32"));
  args = good;
  args.history_start = I32({2});
  EXPECT_TRUE(IsInvalid(Validate(args), "history_start is [2]"));
  args = good;
  args.history_counts = I32({1});
  EXPECT_TRUE(IsInvalid(Validate(args), "history_counts is [1]"));
  args = good;
  args.bias_values = F32({3});
  EXPECT_TRUE(IsInvalid(Validate(args), "bias_values is [3]"));
  args = good;
  args.top_logprobs = {};
  EXPECT_TRUE(IsInvalid(Validate(args), "top_logprobs has rank 0"));
  args = good;
  args.top_ids = I32({2, 21});
  args.top_logprobs = F32({2, 21});
  EXPECT_TRUE(IsInvalid(Validate(args), "num_top is 21"));
}

}  // namespace
}  // namespace comet
