#include "engine/quantizer/two_level_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/math.h"
#include "kernels/base/packed_codes.h"
#include "kernels/base/wide_vectors.h"
#include "kernels/ops/linear_input.h"

namespace comet {
namespace {

constexpr int kStepMin = -15;
constexpr int kStepMax = 16;
constexpr int kLanes = 16;  // Of the error sum: enough for the compiler to keep vectors busy.

// The grid of clipping factors: a block's step is this share of the one that clips nothing.
constexpr int kNumClips = 17;
constexpr float kClipRatio = 0.965f;  // Down to 0.57.
// The grid of row scales: the largest step of the row is this integer, fractions included.
constexpr int kNumScales = 29;
constexpr float kLargestStepFirst = 16.4f;
constexpr float kLargestStepLast = 9.4f;
constexpr int kNumRefinements = 3;
// A row whose largest step is below this is zero: 1 / step stays finite.
constexpr float kStepFloor = 1e-30f;

// Nearest integer, ties to even, for |x| below 2^22.
inline float RoundSmall(float x) {
  constexpr float kMagic = 0x1.8p23f;
  return (x + kMagic) - kMagic;
}

inline float CodeOf(float weight, float inverse_step) {
  const float code = weight * inverse_step;
  const float low = code < static_cast<float>(kCodeMin) ? static_cast<float>(kCodeMin) : code;
  const float clamped = low > static_cast<float>(kCodeMax) ? static_cast<float>(kCodeMax) : low;
  return RoundSmall(clamped);
}

// One block of a row, padded with zeros of no importance to whole lanes.
struct Block {
  alignas(64) std::array<float, kBlockChannels> weights{};
  alignas(64) std::array<float, kBlockChannels> importance{};
  int num_padded = 0;
  float best_step = 0.0f;  // Real, signed.
};

COMET_WIDE_VECTORS float ErrorOf(const Block& block, float step) {
  const float inverse = step == 0.0f ? 0.0f : 1.0f / step;
  std::array<float, kLanes> sums{};
  for (int first = 0; first < block.num_padded; first += kLanes) {
    const float* weights = block.weights.data() + first;
    const float* importance = block.importance.data() + first;
    for (int lane = 0; lane < kLanes; ++lane) {
      const float error = weights[lane] - step * CodeOf(weights[lane], inverse);
      sums[static_cast<size_t>(lane)] += importance[lane] * (error * error);
    }
  }
  float sum = 0.0f;
  for (const float lane_sum : sums) sum += lane_sum;
  return sum;
}

// The best real step: a negative one puts the positive tail on the eighth code.
float FindBestStep(const Block& block) {
  const auto [low, high] = std::ranges::minmax(block.weights);
  float best_step = 0.0f;
  float best_error = ErrorOf(block, 0.0f);
  for (const float sign : {1.0f, -1.0f}) {
    const float long_tail = std::max(sign > 0.0f ? -low : high, 0.0f);
    const float short_tail = std::max(sign > 0.0f ? high : -low, 0.0f);
    const float unclipped = std::max(long_tail / 8.0f, short_tail / 7.0f);
    if (unclipped < kStepFloor) continue;
    float factor = 1.0f;
    for (int i = 0; i < kNumClips; ++i, factor *= kClipRatio) {
      const float step = sign * unclipped * factor;
      const float error = ErrorOf(block, step);
      if (error < best_error) {
        best_error = error;
        best_step = step;
      }
    }
  }
  return best_step;
}

class RowQuantizer {
 public:
  explicit RowQuantizer(std::span<const float> importance)
      : importance_(importance),
        blocks_(static_cast<size_t>(CeilDiv(static_cast<int>(importance.size()), kBlockChannels))) {
    steps_.resize(blocks_.size());
    trial_steps_.resize(blocks_.size());
  }

  void Quantize(std::span<const float> weights);

  float scale() const { return scale_; }
  const std::vector<int>& steps() const { return steps_; }
  // The codes of a block, [num_channels of it].
  int CodeAt(size_t block_idx, size_t channel) const;

 private:
  void Load(std::span<const float> weights);
  float FindSteps(float scale, std::vector<int>& steps) const;
  float FitScale() const;
  void Take(float scale);

  std::span<const float> importance_;
  std::vector<Block> blocks_;
  std::vector<int> steps_;
  std::vector<int> trial_steps_;
  float scale_ = 1.0f;
  float error_ = 0.0f;
};

void RowQuantizer::Quantize(std::span<const float> weights) {
  Load(weights);
  scale_ = 1.0f;
  std::ranges::fill(steps_, 1);
  float largest = 0.0f;
  for (Block& block : blocks_) {
    block.best_step = FindBestStep(block);
    largest = std::max(largest, std::abs(block.best_step));
  }
  if (largest < kStepFloor) {
    scale_ = 1.0f;
    std::ranges::fill(steps_, 1);  // With every code 0.
    for (Block& block : blocks_) block.weights.fill(0.0f);
    return;
  }
  error_ = std::numeric_limits<float>::infinity();
  for (int i = 0; i < kNumScales; ++i) {
    const float share = static_cast<float>(i) / static_cast<float>(kNumScales - 1);
    Take(largest / (kLargestStepFirst + share * (kLargestStepLast - kLargestStepFirst)));
  }
  for (int i = 0; i < kNumRefinements; ++i) {
    const float before = error_;
    Take(FitScale());
    if (error_ >= before) break;
  }
}

void RowQuantizer::Load(std::span<const float> weights) {
  for (size_t b = 0; b < blocks_.size(); ++b) {
    Block& block = blocks_[b];
    const size_t first = b * kBlockChannels;
    const size_t count = std::min<size_t>(kBlockChannels, weights.size() - first);
    std::ranges::copy(weights.subspan(first, count), block.weights.begin());
    std::ranges::copy(importance_.subspan(first, count), block.importance.begin());
    std::fill(block.weights.begin() + static_cast<std::ptrdiff_t>(count), block.weights.end(),
              0.0f);
    block.num_padded = AlignUp(static_cast<int>(count), kLanes);
  }
}

// Keeps `scale` and its best steps if they lower the row's error.
void RowQuantizer::Take(float scale) {
  if (!(scale > kStepFloor) || !std::isfinite(scale)) return;
  const float error = FindSteps(scale, trial_steps_);
  if (error < error_) {
    error_ = error;
    scale_ = scale;
    std::swap(steps_, trial_steps_);
  }
}

// Each block's best integer step beside its real one; returns the row's error.
float RowQuantizer::FindSteps(float scale, std::vector<int>& steps) const {
  float row_error = 0.0f;
  for (size_t b = 0; b < blocks_.size(); ++b) {
    const Block& block = blocks_[b];
    const int below = static_cast<int>(std::floor(block.best_step / scale));
    float best_error = std::numeric_limits<float>::infinity();
    for (const int candidate : {below, below + 1}) {
      const int step = std::clamp(candidate, kStepMin, kStepMax);
      const float error = ErrorOf(block, scale * static_cast<float>(step));
      if (error < best_error) {
        best_error = error;
        steps[b] = step;
      }
    }
    row_error += best_error;
  }
  return row_error;
}

// The scale of least error for the codes that the current one gives.
float RowQuantizer::FitScale() const {
  double product = 0.0;
  double square = 0.0;
  for (size_t b = 0; b < blocks_.size(); ++b) {
    const Block& block = blocks_[b];
    for (size_t k = 0; k < kBlockChannels; ++k) {
      const double grid = steps_[b] * CodeAt(b, k);
      product += double{block.importance[k]} * double{block.weights[k]} * grid;
      square += double{block.importance[k]} * grid * grid;
    }
  }
  return square > 0.0 ? static_cast<float>(product / square) : 0.0f;
}

int RowQuantizer::CodeAt(size_t block_idx, size_t channel) const {
  const float step = scale_ * static_cast<float>(steps_[block_idx]);
  if (step == 0.0f) return 0;
  return static_cast<int>(CodeOf(blocks_[block_idx].weights[channel], 1.0f / step));
}

// `codes` has two channels a byte.
void StoreRow(const RowQuantizer& row, size_t num_channels, uint8_t* codes, int8_t* steps) {
  for (size_t b = 0; b < row.steps().size(); ++b) steps[b] = static_cast<int8_t>(row.steps()[b]);
  for (size_t k = 0; k < num_channels; k += 2) {
    const int even = row.CodeAt(k / kBlockChannels, k % kBlockChannels);
    const int odd = row.CodeAt(k / kBlockChannels, k % kBlockChannels + 1);
    codes[k / 2] = PackCodes(even, odd);
  }
}

}  // namespace

TwoLevelWeights QuantizeTwoLevel(std::span<const float> weights, std::span<const float> importance,
                                 int num_threads) {
  const size_t num_channels = importance.size();
  const size_t num_rows = weights.size() / num_channels;
  const size_t num_blocks = CeilDiv<size_t>(num_channels, kBlockChannels);
  TwoLevelWeights result;
  result.codes.resize(num_rows * num_channels / 2);
  result.steps.resize(num_rows * num_blocks);
  result.scale.resize(num_rows);
  ParallelRows(num_threads, static_cast<int>(num_rows), [&](int first, int last) {
    RowQuantizer row(importance);
    for (size_t n = static_cast<size_t>(first); n < static_cast<size_t>(last); ++n) {
      row.Quantize(weights.subspan(n * num_channels, num_channels));
      result.scale[n] = row.scale();
      StoreRow(row, num_channels, result.codes.data() + n * num_channels / 2,
               result.steps.data() + n * num_blocks);
    }
  });
  return result;
}

}  // namespace comet
