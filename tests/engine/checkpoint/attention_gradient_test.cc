#include "engine/quantizer/attention_gradient.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/quantizer/relative_error.h"
#include "engine/quantizer/small_product.h"
#include "kernels/base/random.h"

namespace comet {
namespace {

HostRows NormalValues(Random& random, int count) {
  HostRows values(static_cast<size_t>(count));
  for (float& value : values) value = random.NextNormal();
  return values;
}

// The definition, one query at a time in fp64; `gradient` gets what `d_out` is in the arguments.
HostRows PlainAttention(const AttentionShape& shape, const AttentionRows& rows,
                        const HostRows& d_out, AttentionRows& gradient) {
  const auto at = [&](int token, int head, int num_heads) {
    return static_cast<size_t>((token * num_heads + head) * shape.head_dim);
  };
  const auto dot = [&](const HostRows& a, size_t i, const HostRows& b, size_t j) {
    double sum = 0.0;
    for (size_t d = 0; d < static_cast<size_t>(shape.head_dim); ++d) {
      sum += double{a[i + d]} * double{b[j + d]};
    }
    return sum;
  };
  const auto add = [&](double factor, const HostRows& a, size_t i, HostRows& b, size_t j) {
    for (size_t d = 0; d < static_cast<size_t>(shape.head_dim); ++d) {
      b[j + d] += static_cast<float>(factor * double{a[i + d]});
    }
  };
  HostRows out(rows.q.size(), 0.0f);
  gradient = {.q = HostRows(rows.q.size(), 0.0f),
              .k = HostRows(rows.k.size(), 0.0f),
              .v = HostRows(rows.v.size(), 0.0f)};
  const double scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim));
  for (int head = 0; head < shape.num_heads; ++head) {
    const int kv_head = head / (shape.num_heads / shape.num_kv_heads);
    for (int t = 0; t < shape.num_tokens; ++t) {
      const size_t q = at(t, head, shape.num_heads);
      const int first = shape.window == 0 ? 0 : std::max(0, t - shape.window + 1);
      std::vector<double> p;
      double sum = 0.0;
      for (int j = first; j <= t; ++j) {
        p.push_back(std::exp(scale * dot(rows.q, q, rows.k, at(j, kv_head, shape.num_kv_heads))));
        sum += p.back();
      }
      double mean = 0.0;
      for (int j = first; j <= t; ++j) {
        const size_t kv = at(j, kv_head, shape.num_kv_heads);
        double& probability = p[static_cast<size_t>(j - first)];
        probability /= sum;
        mean += probability * dot(d_out, q, rows.v, kv);
        add(probability, rows.v, kv, out, q);
        add(probability, d_out, q, gradient.v, kv);
      }
      for (int j = first; j <= t; ++j) {
        const size_t kv = at(j, kv_head, shape.num_kv_heads);
        const double d_score =
            scale * p[static_cast<size_t>(j - first)] * (dot(d_out, q, rows.v, kv) - mean);
        add(d_score, rows.k, kv, gradient.q, q);
        add(d_score, rows.q, q, gradient.k, kv);
      }
    }
  }
  return out;
}

class AttentionGradient : public testing::TestWithParam<AttentionShape> {};

TEST_P(AttentionGradient, IsThatOfTheDefinition) {
  const AttentionShape shape = GetParam();
  Random random(3);
  const int q_size = shape.num_tokens * shape.num_heads * shape.head_dim;
  const int kv_size = shape.num_tokens * shape.num_kv_heads * shape.head_dim;
  const AttentionRows rows{.q = NormalValues(random, q_size),
                           .k = NormalValues(random, kv_size),
                           .v = NormalValues(random, kv_size)};
  const HostRows d_out = NormalValues(random, q_size);
  AttentionRows expected;
  const HostRows expected_out = PlainAttention(shape, rows, d_out, expected);

  const HostRows out = CausalAttention(shape, rows, 1);
  const AttentionRows gradient = CausalAttentionGradient(shape, rows, d_out, 1);

  EXPECT_LT(RelativeError(out, expected_out), 2e-6);
  EXPECT_LT(RelativeError(gradient.q, expected.q), 1e-5);
  EXPECT_LT(RelativeError(gradient.k, expected.k), 1e-5);
  EXPECT_LT(RelativeError(gradient.v, expected.v), 1e-5);
  const AttentionRows again = CausalAttentionGradient(shape, rows, d_out, 3);
  EXPECT_EQ(CausalAttention(shape, rows, 3), out);
  EXPECT_EQ(again.q, gradient.q);
  EXPECT_EQ(again.k, gradient.k);
  EXPECT_EQ(again.v, gradient.v);
}

// Around a tile of 32 tokens; windows within a tile and over several; odd heads.
INSTANTIATE_TEST_SUITE_P(
    Shapes, AttentionGradient,
    testing::Values(
        AttentionShape{.num_tokens = 1, .num_heads = 2, .num_kv_heads = 1, .head_dim = 8},
        AttentionShape{.num_tokens = 33, .num_heads = 3, .num_kv_heads = 3, .head_dim = 6},
        AttentionShape{.num_tokens = 100, .num_heads = 6, .num_kv_heads = 2, .head_dim = 16},
        AttentionShape{
            .num_tokens = 100, .num_heads = 2, .num_kv_heads = 2, .head_dim = 16, .window = 5},
        AttentionShape{
            .num_tokens = 130, .num_heads = 4, .num_kv_heads = 1, .head_dim = 64, .window = 40}));

TEST(SmallProduct, AddsInOrder) {
  Random random(4);
  for (const auto& [rows, inner, columns] :
       {ProductShape{1, 1, 1}, ProductShape{4, 4, 16}, ProductShape{7, 9, 21}}) {
    const HostRows a = NormalValues(random, static_cast<int>(rows * inner));
    const HostRows b = NormalValues(random, static_cast<int>(inner * columns));
    HostRows expected = NormalValues(random, static_cast<int>(rows * columns));
    HostRows by_rows = expected;
    HostRows by_columns = expected;
    HostRows transposed(a.size());
    for (size_t r = 0; r < rows; ++r) {
      for (size_t i = 0; i < inner; ++i) {
        transposed[i * rows + r] = a[r * inner + i];
        for (size_t j = 0; j < columns; ++j) {
          expected[r * columns + j] += a[r * inner + i] * b[i * columns + j];
        }
      }
    }

    AddProduct({.data = a.data(), .row_stride = inner}, b.data(), columns, {rows, inner, columns},
               by_rows.data(), columns);
    AddProduct({.data = transposed.data(), .row_stride = 1, .column_stride = rows}, b.data(),
               columns, {rows, inner, columns}, by_columns.data(), columns);

    EXPECT_EQ(by_rows, expected);
    EXPECT_EQ(by_columns, expected);
  }
}

}  // namespace
}  // namespace comet
