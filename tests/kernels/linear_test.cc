#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels/linear_tensors.h"
#include "tests/kernels/test_backends.h"

namespace comet {
namespace {

struct Case {
  WeightKind kind;
  ActivationMode mode;
  int num_tokens;
  int num_outputs;
  int num_inputs;
  int num_int4 = 0;
  bool has_bias = false;
  bool has_residual = false;
  DType dtype = DType::kF32;
  int row_padding = 0;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "kind " << static_cast<int>(c.kind) << " mode " << static_cast<int>(c.mode) << " M "
             << c.num_tokens << " N " << c.num_outputs << " K " << c.num_inputs << " int4 "
             << c.num_int4 << " bias " << c.has_bias << " residual " << c.has_residual << " "
             << ToString(c.dtype) << " padding " << c.row_padding;
}

struct KShape {
  int num_inputs;
  std::vector<int> num_int4;  // 0, some, all but the last block, all where K is whole blocks.
};

const KShape kInputs[] = {{64, {0}},
                          {128, {0, 128}},
                          {172, {0, 128}},
                          {576, {0, 256, 512}},
                          {1536, {0, 384, 1408, 1536}},
                          {4096, {3968}}};
// One, odd, register and call tiles +- 1, many.
const int kTokens[] = {0, 1, 2, 3, 7, 8, 9, 23, 24, 25, 50};
const int kOutputs[] = {1, 31, 32, 33, 100};

std::vector<Case> IntegerCases() {
  std::vector<Case> cases;
  for (const ActivationMode mode : {ActivationMode::kMixed, ActivationMode::kInt8}) {
    for (const KShape& shape : kInputs) {
      for (const int num_int4 : shape.num_int4) {
        for (const int num_tokens : kTokens) {
          cases.push_back({WeightKind::kW4ax, mode, num_tokens, 33, shape.num_inputs, num_int4});
        }
      }
      cases.push_back({WeightKind::kInt8, mode, 9, 100, shape.num_inputs});
    }
    for (const int num_outputs : kOutputs) {
      for (const int num_tokens : {1, 25}) {
        cases.push_back({WeightKind::kInt8, mode, num_tokens, num_outputs, 172});
        cases.push_back({WeightKind::kW4ax, mode, num_tokens, num_outputs, 172, 128});
      }
    }
  }
  return cases;
}

std::vector<Case> FloatCases() {
  std::vector<Case> cases;
  for (const KShape& shape : kInputs) {
    for (const int num_tokens : kTokens) {
      cases.push_back(
          {WeightKind::kFloat, ActivationMode::kFloat, num_tokens, 33, shape.num_inputs});
    }
  }
  for (const int num_inputs : {1, 15, 16, 17, 31}) {
    for (const int num_outputs : kOutputs) {
      cases.push_back({WeightKind::kFloat, ActivationMode::kFloat, 7, num_outputs, num_inputs});
    }
  }
  for (const int row_padding : {5, 16}) {
    cases.push_back({.kind = WeightKind::kFloat,
                     .mode = ActivationMode::kFloat,
                     .num_tokens = 7,
                     .num_outputs = 33,
                     .num_inputs = 64,
                     .row_padding = row_padding});
  }
  return cases;
}

std::vector<Case> EpilogueCases() {
  std::vector<Case> cases;
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    for (const int row_padding : {0, 5}) {
      for (const bool has_bias : {false, true}) {
        for (const bool has_residual : {false, true}) {
          for (const WeightKind kind : {WeightKind::kW4ax, WeightKind::kInt8, WeightKind::kFloat}) {
            const ActivationMode mode =
                kind == WeightKind::kFloat ? ActivationMode::kFloat : ActivationMode::kMixed;
            const int num_int4 = kind == WeightKind::kW4ax ? 128 : 0;
            cases.push_back(
                {kind, mode, 9, 45, 172, num_int4, has_bias, has_residual, dtype, row_padding});
          }
        }
      }
    }
  }
  return cases;
}

class LinearTest : public BackendTest {
 protected:
  // Cuda computes no products of float weights: FloatProductsHaveTheReferencesBits says so.
  bool HasKernel(WeightKind kind) const { return !is_cuda() || kind != WeightKind::kFloat; }

  // Elements after each row of codes. The contract lets rows begin anywhere; cuda asks for 16
  // bytes.
  int CodesPadding(int num_inputs, int row_padding = 0) const {
    if (!is_cuda()) return row_padding;
    return AlignUp(num_inputs + row_padding, 16) - num_inputs;
  }

  HostTensor Run(Ops& ops, const Case& c, bool in_place = false) {
    Random random(11);
    const WeightTensors weights(c.kind, c.num_outputs, c.num_inputs, c.num_int4, random, c.dtype);
    const std::unique_ptr<PackedLinear> packed = weights.Pack(ops).value();
    LinearInputTensors x(FormatOf(c.mode, c.num_inputs, c.num_int4), c.num_tokens, c.num_inputs,
                         c.dtype, CodesPadding(c.num_inputs, c.row_padding));
    x.FillRandom(random);
    HostTensor bias(DType::kF32, {c.num_outputs});
    bias.FillNormal(random, 1.0f);
    HostTensor residual(c.dtype, {c.num_tokens, c.num_outputs}, c.row_padding);
    residual.FillNormal(random, 1.0f);
    HostTensor y(c.dtype, {c.num_tokens, c.num_outputs}, c.row_padding);

    LinearArgs args{
        .y = in_place ? residual.view() : y.view(), .x = x.view(), .weights = packed.get()};
    if (c.has_bias) args.bias = bias.view();
    if (c.has_residual) args.residual = residual.view();
    EXPECT_EQ(ops.Linear(args), Status::Ok());

    EXPECT_TRUE(y.GuardsAreIntact() && residual.GuardsAreIntact() && x.GuardsAreIntact()) << c;
    return in_place ? residual : y;
  }

  HostTensor RunOnce(const WeightTensors& weights, LinearInputTensors& x, int num_outputs) {
    HostTensor y(DType::kF32, {x.codes.dim(0), num_outputs});
    const std::unique_ptr<PackedLinear> packed = weights.Pack(tested_ops()).value();
    EXPECT_EQ(tested_ops().Linear({.y = y.view(), .x = x.view(), .weights = packed.get()}),
              Status::Ok());
    return y;
  }

  // Token 0 at the positive limits, token 1 at the negative ones, both with the largest exponent.
  static void FillExtreme(LinearInputTensors& x, int int4_limit) {
    for (int t = 0; t < 2; ++t) {
      const int sign = t == 0 ? 1 : -1;
      for (int k = 0; k < x.codes.dim(1); ++k) {
        x.codes.Set(t, k, sign * (k < x.format.num_int4_channels ? int4_limit : 127));
      }
      x.scale.Set(0, t, 1.0);
      x.exponent.Set(0, t, x.format.exponent_max);
      x.SetCodeSum(t);
    }
  }

  void ExpectSameBits(const std::vector<Case>& cases) {
    for (const Case& c : cases) {
      if (!HasKernel(c.kind)) continue;
      const HostTensor expected = Run(reference_ops(), c);
      const HostTensor actual = Run(tested_ops(), c);

      EXPECT_EQ(DifferenceOf(actual, expected), "") << c;
    }
  }
};

TEST_P(LinearTest, IntegerProductsHaveTheReferencesBits) { ExpectSameBits(IntegerCases()); }

TEST_P(LinearTest, FloatProductsHaveTheReferencesBits) {
  if (is_cuda()) GTEST_SKIP() << "cuda has no kernel of float weights";
  ExpectSameBits(FloatCases());
}

// A product of 0 with it would be NaN.
TEST_P(LinearTest, FloatProductsReadNothingBetweenRows) {
  if (is_cuda()) GTEST_SKIP() << "cuda has no kernel of float weights";
  constexpr int kNumTokens = 3;
  constexpr int kNumInputs = 172;
  constexpr int kStride = 176;  // A whole number of vectors.
  Random random(7);
  const WeightTensors weights(WeightKind::kFloat, 33, kNumInputs, 0, random);
  const std::unique_ptr<PackedLinear> packed = weights.Pack(tested_ops()).value();
  HostTensor rows(DType::kF32, {kNumTokens, kStride});
  rows.FillNormal(random, 1.0f);
  for (int t = 0; t < kNumTokens; ++t) {
    for (int k = kNumInputs; k < kStride; ++k) rows.Set(t, k, std::nan(""));
  }
  TensorShape shape{kNumTokens, kNumInputs};
  shape.set_stride(0, kStride);
  HostTensor y(DType::kF32, {kNumTokens, 33});

  const LinearInput x{.values = {rows.view().data(), DType::kF32, shape}};
  ASSERT_TRUE(tested_ops().Linear({.y = y.view(), .x = x, .weights = packed.get()}).ok());

  for (int t = 0; t < kNumTokens; ++t) {
    for (int n = 0; n < 33; ++n) ASSERT_TRUE(std::isfinite(y.At(t, n))) << t << " " << n;
  }
}

TEST_P(LinearTest, BiasResidualAndRoundingHaveTheReferencesBits) {
  ExpectSameBits(EpilogueCases());
}

TEST_P(LinearTest, WritesOverItsResidual) {
  const Case c{WeightKind::kW4ax, ActivationMode::kMixed, 9, 45, 172, 128, false, true};

  EXPECT_EQ(DifferenceOf(Run(tested_ops(), c, /*in_place=*/true), Run(tested_ops(), c)), "");
}

// Every sum at its largest: v = -8 is the largest product, v = 7 the largest biased code.
TEST_P(LinearTest, LargestSumsAreExact) {
  constexpr int kInputs4096 = 4096;
  constexpr int kInt4 = 2048;
  for (const ActivationMode mode : {ActivationMode::kMixed, ActivationMode::kInt8}) {
    for (const int v : {-8, 7}) {
      Random random(3);
      WeightTensors weights(WeightKind::kW4ax, 2, kInputs4096, kInt4, random);
      for (int n = 0; n < 2; ++n) {
        for (int i = 0; i < kInputs4096 / 2; ++i) weights.codes.Set(n, i, (v & 0xf) * 0x11);
        for (int b = 0; b < weights.steps.dim(1); ++b) weights.steps.Set(n, b, 16);
      }
      LinearInputTensors x(FormatOf(mode, kInputs4096, kInt4), 2, kInputs4096);
      const int int4_limit = mode == ActivationMode::kMixed ? 7 : 127;
      FillExtreme(x, int4_limit);

      const HostTensor y = RunOnce(weights, x, 2);

      const double sum = 16.0 * v *
                         ((127.0 * (kInputs4096 - kInt4)) * (1 << x.format.exponent_max) +
                          static_cast<double>(int4_limit) * kInt4);
      const float scale = static_cast<float>(weights.scale.At(0, 0));
      EXPECT_EQ(y.At(0, 0), static_cast<double>(static_cast<float>(sum) * scale)) << v;
      EXPECT_EQ(y.At(1, 0), static_cast<double>(static_cast<float>(-sum) * scale)) << v;
    }
  }
}

TEST_P(LinearTest, LargestInt8SumsAreExact) {
  constexpr int kInputs1000 = 1000;
  for (const int code : {-127, 127}) {
    Random random(3);
    WeightTensors weights(WeightKind::kInt8, 2, kInputs1000, 0, random);
    for (int n = 0; n < 2; ++n) {
      for (int k = 0; k < kInputs1000; ++k) weights.codes.Set(n, k, code);
    }
    LinearInputTensors x(FormatOf(ActivationMode::kInt8, kInputs1000, 0), 2, kInputs1000,
                         DType::kF32, CodesPadding(kInputs1000));
    FillExtreme(x, 127);

    const HostTensor y = RunOnce(weights, x, 2);

    const double sum = 127.0 * code * kInputs1000 * (1 << x.format.exponent_max);
    const float scale = static_cast<float>(weights.scale.At(0, 0));
    EXPECT_EQ(y.At(0, 0), static_cast<double>(static_cast<float>(sum) * scale)) << code;
    EXPECT_EQ(y.At(1, 0), static_cast<double>(static_cast<float>(-sum) * scale)) << code;
  }
}

TEST_P(LinearTest, ARowDoesNotDependOnTheOthers) {
  for (const WeightKind kind : {WeightKind::kW4ax, WeightKind::kInt8, WeightKind::kFloat}) {
    if (!HasKernel(kind)) continue;
    const ActivationMode mode =
        kind == WeightKind::kFloat ? ActivationMode::kFloat : ActivationMode::kMixed;
    constexpr int kNumTokens = 53;
    Random random(5);
    const WeightTensors weights(kind, 96, 576, kind == WeightKind::kW4ax ? 512 : 0, random);
    const std::unique_ptr<PackedLinear> packed = weights.Pack(tested_ops()).value();
    LinearInputTensors x(FormatOf(mode, 576, weights.num_int4), kNumTokens, 576);
    x.FillRandom(random);
    HostTensor together(DType::kF32, {kNumTokens, 96});
    HostTensor alone(DType::kF32, {kNumTokens, 96});

    ASSERT_TRUE(
        tested_ops().Linear({.y = together.view(), .x = x.view(), .weights = packed.get()}).ok());
    for (int t = 0; t < kNumTokens; ++t) {
      LinearInput row = x.view();
      if (mode == ActivationMode::kFloat) {
        row.values = row.values.Rows(t, 1);
      } else {
        row.codes = row.codes.Rows(t, 1);
        row.scale = row.scale.Rows(t, 1);
        row.exponent = row.exponent.Rows(t, 1);
        row.code_sum = row.code_sum.Rows(t, 1);
      }
      ASSERT_TRUE(tested_ops()
                      .Linear({.y = alone.view().Rows(t, 1), .x = row, .weights = packed.get()})
                      .ok());
    }

    EXPECT_EQ(DifferenceOf(alone, together), "");
  }
}

COMET_INSTANTIATE_FOR_BACKENDS(LinearTest);

}  // namespace
}  // namespace comet
