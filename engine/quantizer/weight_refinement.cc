#include "engine/quantizer/weight_refinement.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "engine/model/pack_floats.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/math.h"
#include "kernels/base/packed_codes.h"
#include "kernels/base/wide_vectors.h"
#include "kernels/ops/linear_input.h"

namespace comet {
namespace {

constexpr float kWantedMin = kCodeMin;
constexpr float kWantedMax = kCodeMax;
constexpr double kStepMin = -15.0;
constexpr double kStepMax = 16.0;
constexpr int kNumScales = 29;          // Tried between 1 and
constexpr double kScaleRatioMax = 1.9;  // this multiple of the smallest that holds every step.
constexpr int kNumStepSweeps = 3;
constexpr double kRidge = 1e-6;  // Of the mean diagonal: blocks without codes stay solvable.
// Rows of one product with the gram matrix: bounds its result, [blocks, rows, K], to 64 MB.
constexpr size_t kProductFloatsMax = size_t{16} << 20;
constexpr size_t kLanes = 16;  // Partial sums of a dot product.

COMET_WIDE_VECTORS double Dot(const float* a, const float* b, size_t count) {
  std::array<float, kLanes> sums{};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  double sum = 0.0;
  for (; i < count; ++i) sum += double{a[i]} * double{b[i]};
  for (const float lane_sum : sums) sum += double{lane_sum};
  return sum;
}

// The error of a row's steps, s' A s - 2 r' s and a constant: A[b, c] = v_b H v_c', r[b] = v_b H
// w', v_b the codes of block b.
struct StepSystem {
  size_t num_blocks = 0;
  std::vector<double> a;
  std::vector<double> r;

  double ErrorOf(const std::vector<double>& s) const {
    double error = 0.0;
    for (size_t b = 0; b < num_blocks; ++b) {
      double product = 0.0;
      for (size_t c = 0; c < num_blocks; ++c) product += a[b * num_blocks + c] * s[c];
      error += s[b] * (product - 2.0 * r[b]);
    }
    return error;
  }

  // The real steps of least error, by Cholesky factors; empty when rounding denies them.
  std::vector<double> Solve() const;
};

std::vector<double> StepSystem::Solve() const {
  const size_t n = num_blocks;
  double trace = 0.0;
  for (size_t b = 0; b < n; ++b) trace += a[b * n + b];
  std::vector<double> lower = a;
  std::vector<double> s = r;
  for (size_t i = 0; i < n; ++i) {
    lower[i * n + i] += kRidge * trace / static_cast<double>(n);
    for (size_t j = 0; j <= i; ++j) {
      double sum = lower[i * n + j];
      for (size_t k = 0; k < j; ++k) sum -= lower[i * n + k] * lower[j * n + k];
      if (j < i) {
        lower[i * n + j] = sum / lower[j * n + j];
      } else if (sum > 0.0) {
        lower[i * n + i] = std::sqrt(sum);
      } else {
        return {};
      }
    }
    for (size_t k = 0; k < i; ++k) s[i] -= lower[i * n + k] * s[k];
    s[i] /= lower[i * n + i];
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k) s[i] -= lower[k * n + i] * s[k];
    s[i] /= lower[i * n + i];
  }
  return s;
}

struct Steps {
  double scale = 1.0;
  std::vector<double> gamma;

  std::vector<double> Values() const {
    std::vector<double> values = gamma;
    for (double& value : values) value *= scale;
    return values;
  }
};

// The integer nearest to `step` in units of the scale; never 0, which would lose the block.
double NearestStep(double step, double fallback) {
  const double gamma = std::clamp(std::nearbyint(step), kStepMin, kStepMax);
  return gamma != 0.0 ? gamma : fallback;
}

// Each integer step and the scale in turn to their least error.
void DescendSteps(const StepSystem& system, Steps& steps) {
  const size_t n = system.num_blocks;
  for (int sweep = 0; sweep < kNumStepSweeps; ++sweep) {
    for (size_t b = 0; b < n; ++b) {
      const double diagonal = system.a[b * n + b];
      if (!(diagonal > 0.0)) continue;
      double slope = -system.r[b];
      for (size_t c = 0; c < n; ++c) slope += system.a[b * n + c] * steps.scale * steps.gamma[c];
      steps.gamma[b] =
          NearestStep(steps.gamma[b] - slope / (diagonal * steps.scale), steps.gamma[b]);
    }
    double product = 0.0;
    double square = 0.0;
    for (size_t b = 0; b < n; ++b) {
      product += steps.gamma[b] * system.r[b];
      for (size_t c = 0; c < n; ++c) {
        square += steps.gamma[b] * system.a[b * n + c] * steps.gamma[c];
      }
    }
    if (product > 0.0 && square > 0.0) steps.scale = product / square;
  }
}

// Better steps for these codes, or those given.
Steps RefitSteps(const StepSystem& system, const Steps& given) {
  const std::vector<double> wanted = system.Solve();
  double smallest = 0.0;
  for (const double step : wanted) {
    smallest = std::max(smallest, step > 0.0 ? step / kStepMax : step / kStepMin);
  }
  if (!(smallest > 1e-30) || !std::isfinite(smallest)) return given;
  Steps best = given;
  double best_error = system.ErrorOf(given.Values());
  Steps start;
  double start_error = 0.0;
  for (int i = 0; i < kNumScales; ++i) {
    Steps trial = given;
    trial.scale = smallest * (1.0 + (kScaleRatioMax - 1.0) * i / (kNumScales - 1));
    for (size_t b = 0; b < wanted.size(); ++b) {
      trial.gamma[b] = NearestStep(wanted[b] / trial.scale, wanted[b] < 0.0 ? -1.0 : 1.0);
    }
    const double error = system.ErrorOf(trial.Values());
    if (i == 0 || error < start_error) {
      start_error = error;
      start = std::move(trial);
    }
  }
  DescendSteps(system, start);
  if (system.ErrorOf(start.Values()) < best_error) best = std::move(start);
  return best;
}

// Codes of channels [first, last) of a row take their least error in turn; `slope` follows. False
// when none changed.
COMET_WIDE_VECTORS bool SweepBlock(const float* gram, size_t num_channels, size_t first,
                                   size_t last, float step, float* __restrict codes,
                                   float* __restrict slope) {
  bool has_changed = false;
  for (size_t k = first; k < last; ++k) {
    const float* __restrict row = gram + k * num_channels;
    const float wanted = codes[k] - slope[k] / (row[k] * step);
    const float code = std::nearbyint(std::clamp(wanted, kWantedMin, kWantedMax));
    if (code == codes[k]) continue;
    has_changed = true;
    const float change = (code - codes[k]) * step;
    codes[k] = code;
    for (size_t j = 0; j < num_channels; ++j) slope[j] += change * row[j];
  }
  return has_changed;
}

COMET_WIDE_VECTORS void AddTimes(float factor, const float* __restrict values, size_t count,
                                 float* __restrict sum) {
  for (size_t k = 0; k < count; ++k) sum[k] += factor * values[k];
}

// One row while it is refined.
class RowRefiner {
 public:
  RowRefiner(std::span<const float> gram, size_t num_channels)
      : gram_(gram), num_channels_(num_channels), codes_(num_channels), slope_(num_channels) {
    system_.num_blocks = CeilDiv(num_channels, static_cast<size_t>(kBlockChannels));
    system_.a.resize(system_.num_blocks * system_.num_blocks);
    system_.r.resize(system_.num_blocks);
    steps_.gamma.resize(system_.num_blocks);
  }

  // The row is number `row` of `quantized` and number `i` of the products: codes_by_gram
  // [blocks][any, K], each block's codes times the gram matrix.
  void Refine(std::span<const float> weights, const float* weights_by_gram,
              const std::vector<HostRows>& codes_by_gram, size_t i, int num_sweeps, size_t row,
              TwoLevelWeights& quantized);

 private:
  size_t FirstOf(size_t block) const { return block * kBlockChannels; }
  size_t SizeOf(size_t block) const {
    return std::min<size_t>(kBlockChannels, num_channels_ - FirstOf(block));
  }
  void Load(const TwoLevelWeights& quantized, size_t row);
  void Store(TwoLevelWeights& quantized, size_t row) const;
  void FillSystem(std::span<const float> weights, const std::vector<HostRows>& codes_by_gram,
                  size_t i);
  void FillSlope(const float* weights_by_gram, const std::vector<HostRows>& codes_by_gram,
                 size_t i);
  bool SweepCodes();

  std::span<const float> gram_;
  size_t num_channels_;
  std::vector<float> codes_;
  std::vector<float> slope_;  // (w' - w) H
  StepSystem system_;
  Steps steps_;
};

void RowRefiner::Refine(std::span<const float> weights, const float* weights_by_gram,
                        const std::vector<HostRows>& codes_by_gram, size_t i, int num_sweeps,
                        size_t row, TwoLevelWeights& quantized) {
  Load(quantized, row);
  FillSystem(weights, codes_by_gram, i);
  steps_ = RefitSteps(system_, steps_);
  // As the checkpoint will hold it.
  steps_.scale = double{static_cast<float>(steps_.scale)};
  FillSlope(weights_by_gram, codes_by_gram, i);
  for (int sweep = 0; sweep < num_sweeps && SweepCodes(); ++sweep) {
  }
  Store(quantized, row);
}

void RowRefiner::Load(const TwoLevelWeights& quantized, size_t row) {
  const uint8_t* packed = quantized.codes.data() + row * num_channels_ / 2;
  for (size_t k = 0; k < num_channels_; ++k) codes_[k] = static_cast<float>(CodeAt(packed, k));
  steps_.scale = double{quantized.scale[row]};
  for (size_t b = 0; b < system_.num_blocks; ++b) {
    steps_.gamma[b] = quantized.steps[row * system_.num_blocks + b];
  }
}

void RowRefiner::Store(TwoLevelWeights& quantized, size_t row) const {
  for (size_t k = 0; k < num_channels_; k += 2) {
    const int even = static_cast<int>(codes_[k]);
    const int odd = static_cast<int>(codes_[k + 1]);
    quantized.codes[(row * num_channels_ + k) / 2] = PackCodes(even, odd);
  }
  quantized.scale[row] = static_cast<float>(steps_.scale);
  for (size_t b = 0; b < system_.num_blocks; ++b) {
    quantized.steps[row * system_.num_blocks + b] = static_cast<int8_t>(steps_.gamma[b]);
  }
}

void RowRefiner::FillSystem(std::span<const float> weights,
                            const std::vector<HostRows>& codes_by_gram, size_t i) {
  const size_t n = system_.num_blocks;
  for (size_t b = 0; b < n; ++b) {
    const float* product = codes_by_gram[b].data() + i * num_channels_;
    for (size_t c = 0; c < n; ++c) {
      system_.a[b * n + c] = Dot(product + FirstOf(c), codes_.data() + FirstOf(c), SizeOf(c));
    }
    system_.r[b] = Dot(product, weights.data(), num_channels_);
  }
}

void RowRefiner::FillSlope(const float* weights_by_gram, const std::vector<HostRows>& codes_by_gram,
                           size_t i) {
  for (size_t k = 0; k < num_channels_; ++k) slope_[k] = -weights_by_gram[k];
  for (size_t b = 0; b < system_.num_blocks; ++b) {
    const float step = static_cast<float>(steps_.scale * steps_.gamma[b]);
    AddTimes(step, codes_by_gram[b].data() + i * num_channels_, num_channels_, slope_.data());
  }
}

// False when no code changed.
bool RowRefiner::SweepCodes() {
  bool has_changed = false;
  for (size_t b = 0; b < system_.num_blocks; ++b) {
    const float step = static_cast<float>(steps_.scale * steps_.gamma[b]);
    if (step == 0.0f) continue;
    has_changed |= SweepBlock(gram_.data(), num_channels_, FirstOf(b), FirstOf(b) + SizeOf(b), step,
                              codes_.data(), slope_.data());
  }
  return has_changed;
}

// Refines rows [first, first + count) for one round.
class RoundRunner {
 public:
  static Result<RoundRunner> Create(Backend& backend, std::span<const float> gram,
                                    size_t num_channels);

  Status Run(std::span<const float> weights, const RefinementOptions& options, size_t first,
             size_t count, TwoLevelWeights& quantized);
  size_t rows_max() const {
    return std::max<size_t>(kProductFloatsMax / (columns_.size() * num_channels_), 16);
  }

 private:
  RoundRunner(Backend& backend, std::span<const float> gram, size_t num_channels)
      : backend_(backend), gram_(gram), num_channels_(num_channels) {}

  Status MultiplyCodesByGram(const TwoLevelWeights& quantized, size_t first, size_t count,
                             int num_threads);

  Backend& backend_;
  std::span<const float> gram_;
  size_t num_channels_;
  std::unique_ptr<PackedLinear> whole_;
  std::vector<std::unique_ptr<PackedLinear>> columns_;  // Of one block each.
  std::vector<HostRows> products_;
};

Result<RoundRunner> RoundRunner::Create(Backend& backend, std::span<const float> gram,
                                        size_t num_channels) {
  RoundRunner runner(backend, gram, num_channels);
  const int n = static_cast<int>(num_channels);
  COMET_ASSIGN_OR_RETURN(runner.whole_, PackFloats(*backend.ops, gram, n, n));
  for (size_t block = 0; block < num_channels; block += kBlockChannels) {
    const size_t size = std::min<size_t>(kBlockChannels, num_channels - block);
    std::vector<float> columns;
    columns.reserve(num_channels * size);
    for (size_t k = 0; k < num_channels; ++k) {
      const float* row = gram.data() + k * num_channels + block;
      columns.insert(columns.end(), row, row + size);
    }
    COMET_ASSIGN_OR_RETURN(std::unique_ptr<PackedLinear> packed,
                           PackFloats(*backend.ops, columns, n, static_cast<int>(size)));
    runner.columns_.push_back(std::move(packed));
  }
  return runner;
}

// products_: of each block's codes, [count, K].
Status RoundRunner::MultiplyCodesByGram(const TwoLevelWeights& quantized, size_t first,
                                        size_t count, int num_threads) {
  products_.resize(columns_.size());
  for (size_t b = 0; b < columns_.size(); ++b) {
    const size_t size = static_cast<size_t>(columns_[b]->num_inputs());
    std::vector<float> codes(count * size);
    ParallelRows(num_threads, static_cast<int>(count), [&](int begin, int end) {
      for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        const uint8_t* packed = quantized.codes.data() + (first + i) * num_channels_ / 2;
        for (size_t j = 0; j < size; ++j) {
          codes[i * size + j] = static_cast<float>(CodeAt(packed, b * kBlockChannels + j));
        }
      }
    });
    COMET_RETURN_IF_ERROR(MultiplyByTransposed(backend_, codes, *columns_[b], products_[b]));
  }
  return Status::Ok();
}

Status RoundRunner::Run(std::span<const float> weights, const RefinementOptions& options,
                        size_t first, size_t count, TwoLevelWeights& quantized) {
  const std::span<const float> rows = weights.subspan(first * num_channels_, count * num_channels_);
  COMET_ASSIGN_OR_RETURN(const HostRows weights_by_gram,
                         MultiplyByTransposed(backend_, rows, *whole_));
  for (int round = 0; round < options.num_rounds; ++round) {
    COMET_RETURN_IF_ERROR(MultiplyCodesByGram(quantized, first, count, options.num_threads));
    ParallelRows(options.num_threads, static_cast<int>(count), [&](int begin, int end) {
      RowRefiner refiner(gram_, num_channels_);
      for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        refiner.Refine(rows.subspan(i * num_channels_, num_channels_),
                       weights_by_gram.data() + i * num_channels_, products_, i, options.num_sweeps,
                       first + i, quantized);
      }
    });
  }
  return Status::Ok();
}

}  // namespace

Status RefineWeights(Backend& backend, std::span<const float> weights, std::span<const float> gram,
                     const RefinementOptions& options, TwoLevelWeights& quantized) {
  if (options.num_rounds == 0) return Status::Ok();
  const size_t num_rows = quantized.scale.size();
  const size_t num_channels = weights.size() / num_rows;
  COMET_ASSIGN_OR_RETURN(RoundRunner runner, RoundRunner::Create(backend, gram, num_channels));
  for (size_t first = 0; first < num_rows; first += runner.rows_max()) {
    const size_t count = std::min(runner.rows_max(), num_rows - first);
    COMET_RETURN_IF_ERROR(runner.Run(weights, options, first, count, quantized));
  }
  return Status::Ok();
}

}  // namespace comet
