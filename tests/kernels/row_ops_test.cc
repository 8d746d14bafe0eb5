#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "tests/kernels/linear_tensors.h"
#include "tests/kernels/test_backends.h"

namespace comet {
namespace {

struct Case {
  ActivationMode mode = ActivationMode::kMixed;
  int num_tokens = 3;
  int num_channels = 576;
  int num_int4 = 0;
  bool has_gather = false;
  DType dtype = DType::kF32;
  int row_padding = 0;
  bool packs_int4 = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "mode " << static_cast<int>(c.mode) << " tokens " << c.num_tokens << " K "
             << c.num_channels << " int4 " << c.num_int4 << " gather " << c.has_gather << " "
             << ToString(c.dtype) << " padding " << c.row_padding
             << (c.packs_int4 ? " packed" : "");
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  const std::vector<std::pair<int, int>> regions = {
      {1, 0},     {15, 0},    {16, 0},     {64, 0},      {128, 128},   {172, 128},  {576, 0},
      {576, 256}, {576, 512}, {1023, 896}, {1024, 1024}, {1536, 1408}, {4096, 3968}};
  for (const ActivationMode mode :
       {ActivationMode::kMixed, ActivationMode::kInt8, ActivationMode::kFloat}) {
    for (const auto& [num_channels, num_int4] : regions) {
      for (const bool has_gather : {false, true}) {
        cases.push_back({mode, 3, num_channels, num_int4, has_gather});
      }
    }
    // Where cuda changes the way it shares rows, in each dtype: few and many rows, narrow and wide.
    for (const auto& [num_tokens, num_channels] : {std::pair{16, 4096},
                                                   {17, 4104},
                                                   {64, 5120},
                                                   {65, 4096},
                                                   {300, 1536},
                                                   {2, 8192},
                                                   {600, 72},
                                                   {140, 4104},
                                                   {3, 18432},
                                                   {20, 16392}}) {
      cases.push_back({mode, num_tokens, num_channels, num_channels / 256 * 128, true});
    }
    for (const auto& [num_tokens, num_channels] : {std::pair{16, 4096},
                                                   {17, 4104},
                                                   {65, 4096},
                                                   {2, 8192},
                                                   {1200, 136},
                                                   {290, 4104},
                                                   {3, 3072},
                                                   {3, 6144},
                                                   {3, 12288},
                                                   {3, 18432},
                                                   {20, 16392}}) {
      const int num_int4 = num_channels / 256 * 128;
      cases.push_back({mode, num_tokens, num_channels, num_int4, true, DType::kF16});
      if (num_tokens == 17 || num_tokens == 65) {
        cases.push_back({mode, num_tokens, num_channels, num_int4, false, DType::kF16});
      }
    }
    for (const int num_tokens : {0, 1, 7, 8, 9, 40}) cases.push_back({mode, num_tokens, 172, 128});
    for (const DType dtype : {DType::kF32, DType::kF16}) {
      cases.push_back({mode, 5, 172, 128, true, dtype, 3});
    }
  }
  return cases;
}

// A row of normal numbers with a few outliers in the INT8 region, so that exponents vary; every
// seventh row is zero, and some have one region zero.
void FillActivations(HostTensor& x, Random& random) {
  x.FillNormal(random, 1.0f);
  for (int t = 0; t < x.dim(0); ++t) {
    const double outlier = std::exp2(random.NextInt(14));
    x.Set(t, x.dim(1) - 1, outlier);
    if (t % 7 != 6 && t % 7 != 5) continue;
    const int begin = t % 7 == 6 ? 0 : x.dim(1) / 2;
    for (int j = begin; j < x.dim(1); ++j) x.Set(t, j, 0.0);
  }
}

HostTensor Permutation(int size, Random& random) {
  std::vector<int32_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  for (int i = size - 1; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(random.NextInt(i + 1))]);
  }
  return HostTensor::OfInts(order);
}

void ExpectSameBits(LinearInputTensors& actual, LinearInputTensors& expected, const Case& c) {
  EXPECT_TRUE(actual.GuardsAreIntact()) << c;
  if (c.mode == ActivationMode::kFloat) {
    EXPECT_EQ(DifferenceOf(actual.values, expected.values), "") << c;
    return;
  }
  EXPECT_EQ(DifferenceOf(actual.codes, expected.codes), "") << c;
  EXPECT_EQ(DifferenceOf(actual.scale, expected.scale), "") << c;
  EXPECT_EQ(DifferenceOf(actual.exponent, expected.exponent), "") << c;
  EXPECT_EQ(DifferenceOf(actual.code_sum, expected.code_sum), "") << c;
}

class RowOpsTest : public BackendTest {
 protected:
  // Runs `op` on the reference and the tested back end and compares what they wrote.
  void Compare(const Case& c, const std::function<Status(Ops&, const LinearInput&)>& op) {
    ActivationFormat format = FormatOf(c.mode, c.num_channels, c.num_int4);
    format.packs_int4 = c.packs_int4;
    LinearInputTensors expected(format, c.num_tokens, c.num_channels, c.dtype, c.row_padding);
    LinearInputTensors actual(format, c.num_tokens, c.num_channels, c.dtype, c.row_padding);

    ASSERT_EQ(op(reference_ops(), expected.view()), Status::Ok()) << c;
    ASSERT_EQ(op(tested_ops(), actual.view()), Status::Ok()) << c;

    ExpectSameBits(actual, expected, c);
  }
};

TEST_P(RowOpsTest, RmsNormHasTheReferencesBits) {
  for (const Case& c : Cases()) {
    Random random(17);
    HostTensor x(c.dtype, {c.num_tokens, c.num_channels}, c.row_padding);
    FillActivations(x, random);
    HostTensor weight(DType::kF32, {c.num_channels});
    weight.FillUniform(random, 0.5f, 1.5f);
    const HostTensor gather = Permutation(c.num_channels, random);

    Compare(c, [&](Ops& ops, const LinearInput& out) {
      return ops.RmsNorm({.out = out,
                          .x = x.view(),
                          .weight = weight.view(),
                          .gather = c.has_gather ? std::as_const(gather).view() : ConstTensorView(),
                          .epsilon = 1e-5f});
    });
  }
}

// As ahead of the LM head: some rows, in any order, as the model has its channels; more of them
// than a card has places for rows.
TEST_P(RowOpsTest, RmsNormOfChosenRowsHasTheReferencesBits) {
  constexpr int kNumRows = 700;
  for (const int num_channels : {4096, 576}) {
    const Case c{.mode = ActivationMode::kInt8,
                 .num_tokens = kNumRows,
                 .num_channels = num_channels,
                 .dtype = DType::kF16};
    Random random(18);
    HostTensor x(c.dtype, {40, num_channels});
    FillActivations(x, random);
    HostTensor weight(DType::kF32, {num_channels});
    weight.FillUniform(random, 0.5f, 1.5f);
    std::vector<int32_t> rows(kNumRows);
    for (int32_t& row : rows) row = random.NextInt(x.dim(0));
    const HostTensor chosen = HostTensor::OfInts(rows);

    Compare(c, [&](Ops& ops, const LinearInput& out) {
      return ops.RmsNorm({.out = out,
                          .x = x.view(),
                          .weight = weight.view(),
                          .rows = chosen.view(),
                          .epsilon = 1e-5f});
    });
  }
}

TEST_P(RowOpsTest, GatherHasTheReferencesBits) {
  for (const Case& c : Cases()) {
    Random random(19);
    HostTensor x(c.dtype, {c.num_tokens, c.num_channels}, c.row_padding);
    FillActivations(x, random);
    const HostTensor gather = Permutation(c.num_channels, random);

    Compare(c, [&](Ops& ops, const LinearInput& out) {
      return ops.Gather(
          {.out = out,
           .x = x.view(),
           .gather = c.has_gather ? std::as_const(gather).view() : ConstTensorView()});
    });
  }
}

TEST_P(RowOpsTest, SiluMulHasTheReferencesBits) {
  for (const Case& c : Cases()) {
    Random random(23);
    HostTensor gate_up(c.dtype, {c.num_tokens, 2 * c.num_channels}, c.row_padding);
    gate_up.FillNormal(random, 5.0f);
    for (int t = 1; t < c.num_tokens; t += 3) {
      gate_up.Set(t, random.NextInt(c.num_channels), t % 2 == 0 ? -87.5 : 30000.0);
    }

    Compare(c, [&](Ops& ops, const LinearInput& out) {
      return ops.SiluMul({.out = out, .gate_up = gate_up.view()});
    });
    // All of the INT4 region, or as many blocks where nothing is quantised; and one block alone.
    for (const int num_hadamard :
         {c.num_channels / 128 * 128, std::min(c.num_channels / 128, 1) * 128}) {
      Compare(c, [&](Ops& ops, const LinearInput& out) {
        return ops.SiluMul(
            {.out = out, .gate_up = gate_up.view(), .num_hadamard_channels = num_hadamard});
      });
    }
  }
}

// Bits between the two regions are not written, so both begin with the same.
TEST_P(RowOpsTest, PackedInt4CodesHaveTheReferencesBits) {
  for (Case c : Cases()) {
    if (c.mode != ActivationMode::kMixed) continue;
    c.packs_int4 = true;
    Random random(31);
    HostTensor gate_up(c.dtype, {c.num_tokens, 2 * c.num_channels}, c.row_padding);
    gate_up.FillNormal(random, 5.0f);
    const HostTensor gather = Permutation(c.num_channels, random);
    HostTensor x(c.dtype, {c.num_tokens, c.num_channels}, c.row_padding);
    FillActivations(x, random);
    const auto silu_mul = [&](Ops& ops, const LinearInput& out) {
      return ops.SiluMul({.out = out, .gate_up = gate_up.view()});
    };
    if (!is_cuda()) {
      LinearInputTensors out(FormatOf(c.mode, c.num_channels, c.num_int4), c.num_tokens,
                             c.num_channels, c.dtype, c.row_padding);
      LinearInput view = out.view();
      view.format.packs_int4 = true;
      EXPECT_EQ(silu_mul(tested_ops(), view).code(), StatusCode::kUnimplemented);
      continue;
    }
    Compare(c, silu_mul);
    Compare(c, [&](Ops& ops, const LinearInput& out) {
      return ops.Gather(
          {.out = out,
           .x = x.view(),
           .gather = c.has_gather ? std::as_const(gather).view() : ConstTensorView()});
    });
  }
}

// A first token's activation a million times its neighbours': no power of two of the contract spans
// that, so the scale itself rises.
TEST_P(RowOpsTest, MassiveActivationKeepsItsValue) {
  for (const ActivationMode mode : {ActivationMode::kMixed, ActivationMode::kInt8}) {
    const Case c{.mode = mode, .num_tokens = 2, .num_channels = 172, .num_int4 = 128};
    HostTensor x(DType::kF32, {c.num_tokens, c.num_channels});
    Random random(27);
    x.FillNormal(random, 1.0f);
    x.Set(0, 150, 1e6);
    x.Set(1, 150, -3e4);
    const ActivationFormat format = FormatOf(mode, c.num_channels, c.num_int4);
    LinearInputTensors out(format, c.num_tokens, c.num_channels, c.dtype, 0);

    ASSERT_EQ(tested_ops().Gather({.out = out.view(), .x = x.view()}), Status::Ok());

    for (int t = 0; t < c.num_tokens; ++t) {
      EXPECT_EQ(std::abs(out.codes.At(t, 150)), 127.0) << c;
      EXPECT_EQ(out.exponent.At(0, t), format.exponent_max) << c;
      const double scale = out.scale.At(0, t) * std::exp2(format.exponent_max);
      EXPECT_NEAR(out.codes.At(t, 150) * scale, x.At(t, 150), 1e-6 * std::abs(x.At(t, 150))) << c;
    }
  }
}

TEST_P(RowOpsTest, RowsThatCannotBeQuantizedAreMarked) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const Case& c :
       {Case{.num_tokens = 6, .num_channels = 172, .num_int4 = 128}, Case{.num_tokens = 6,
                                                                     .num_channels = 256,
                                                                     .num_int4 = 128,
                                                                     .has_gather = true,
                                                                     .dtype = DType::kF16}}) {
    Random random(29);
    HostTensor gate_up(c.dtype, {c.num_tokens, 2 * c.num_channels});
    gate_up.FillNormal(random, 1.0f);
    HostTensor x(c.dtype, {c.num_tokens, c.num_channels});
    x.FillNormal(random, 1.0f);
    for (HostTensor* tensor : {&x, &gate_up}) {
      tensor->Set(0, 3, kNan);
      tensor->Set(1, 171, kInfinity);
      tensor->Set(2, 130, -kInfinity);
      for (int k = 0; k < 128; ++k) tensor->Set(3, k, 1e-38);  // 1 / s would overflow unbounded.
      for (int k = 0; k < 172; ++k) tensor->Set(4, k, 3e38 * (k % 3 - 1));
    }
    gate_up.Set(5, c.num_channels + 7, kNan);
    const HostTensor gather = Permutation(c.num_channels, random);

    Compare(c, [&](Ops& ops, const LinearInput& out) {
      return ops.Gather(
          {.out = out,
           .x = x.view(),
           .gather = c.has_gather ? std::as_const(gather).view() : ConstTensorView()});
    });
    Compare(c, [&](Ops& ops, const LinearInput& out) {
      return ops.SiluMul({.out = out, .gate_up = gate_up.view()});
    });
  }
}

TEST_P(RowOpsTest, EmbeddingHasTheReferencesBits) {
  for (const WeightKind kind : {WeightKind::kInt8, WeightKind::kFloat}) {
    for (const DType dtype : {DType::kF32, DType::kF16}) {
      for (const int hidden_size : {1, 64, 172, 576}) {
        Random random(31);
        const WeightTensors weights(kind, 70, hidden_size, 0, random, dtype);
        const HostTensor ids = HostTensor::OfInts({0, 69, 31, 32, 33, 5, 5, 64, 1});
        HostTensor expected(dtype, {9, hidden_size}, 3);
        HostTensor actual(dtype, {9, hidden_size}, 3);
        const auto run = [&](Ops& ops, HostTensor& out) {
          const std::unique_ptr<PackedLinear> table = weights.Pack(ops).value();
          return ops.Embedding({.out = out.view(), .ids = ids.view(), .table = table.get()});
        };

        ASSERT_EQ(run(reference_ops(), expected), Status::Ok());
        ASSERT_EQ(run(tested_ops(), actual), Status::Ok());

        EXPECT_EQ(DifferenceOf(actual, expected), "");
        EXPECT_TRUE(actual.GuardsAreIntact());
      }
    }
  }
}

COMET_INSTANTIATE_FOR_BACKENDS(RowOpsTest);

}  // namespace
}  // namespace comet
