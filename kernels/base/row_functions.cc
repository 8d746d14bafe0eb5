#include "kernels/base/row_functions.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "kernels/base/exact_exp.h"
#include "kernels/base/wide_vectors.h"

namespace comet {
namespace {

constexpr size_t kLanes = 16;
using Lanes = std::array<float, kLanes>;

inline float SumOf(const Lanes& lanes) {
  float sum = 0.0f;
  for (const float lane : lanes) sum += lane;
  return sum;
}

}  // namespace

COMET_WIDE_VECTORS float MaxOf(std::span<const float> row) {
  const float* x = row.data();
  const size_t whole = row.size() / kLanes * kLanes;
  Lanes lanes;
  lanes.fill(x[0]);
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
    }
  }
  float highest = x[0];
  for (const float lane : lanes) highest = std::max(highest, lane);
  for (size_t i = whole; i < row.size(); ++i) highest = std::max(highest, x[i]);
  return highest;
}

COMET_WIDE_VECTORS float DotOf(std::span<const float> a, std::span<const float> b) {
  const float* x = a.data();
  const float* y = b.data();
  const size_t whole = a.size() / kLanes * kLanes;
  Lanes lanes{};
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] * y[i + lane];
  }
  float sum = 0.0f;
  for (size_t i = whole; i < a.size(); ++i) sum += x[i] * y[i];
  return sum + SumOf(lanes);
}

COMET_WIDE_VECTORS float ExpOfRow(float scale, float shift, std::span<float> row) {
  float* x = row.data();
  for (size_t i = 0; i < row.size(); ++i) x[i] = InlineExp(scale * (x[i] - shift));
  const size_t whole = row.size() / kLanes * kLanes;
  Lanes lanes{};
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane];
  }
  float sum = 0.0f;
  for (size_t i = whole; i < row.size(); ++i) sum += x[i];
  return sum + SumOf(lanes);
}

COMET_WIDE_VECTORS float SumOfExp(float shift, std::span<const float> row) {
  const float* x = row.data();
  const size_t whole = row.size() / kLanes * kLanes;
  Lanes lanes{};
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += InlineExp(x[i + lane] - shift);
  }
  float sum = 0.0f;
  for (size_t i = whole; i < row.size(); ++i) sum += InlineExp(x[i] - shift);
  return sum + SumOf(lanes);
}

}  // namespace comet
