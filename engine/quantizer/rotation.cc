#include "engine/quantizer/rotation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <utility>

#include "engine/model/pack_floats.h"
#include "engine/quantizer/activation_statistics.h"
#include "engine/quantizer/channel_order.h"
#include "engine/quantizer/down_smoothing.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/parallel_rows.h"
#include "engine/quantizer/source_check.h"
#include "kernels/base/random.h"
#include "kernels/base/wide_vectors.h"

namespace comet {
namespace {

constexpr int kNumIterations = 24;  // Of the subspace; which of two near-equal directions wins is
                                    // all the same.

constexpr int kNoSample = std::numeric_limits<int>::max();

// In eight partial sums, added in their order.
COMET_WIDE_VECTORS double Dot(std::span<const float> a, std::span<const float> b) {
  constexpr size_t kLanes = 8;
  std::array<double, kLanes> lanes{};
  const size_t whole = a.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += double{a[i + lane]} * double{b[i + lane]};
    }
  }
  double sum = 0.0;
  for (size_t i = whole; i < a.size(); ++i) sum += double{a[i]} * double{b[i]};
  for (const double lane : lanes) sum += lane;
  return sum;
}

// Makes row `row` of [rows, n] orthogonal to those before it and of length 1; twice, as once leaves
// what rounding does. False for a row that lies in their span.
bool Orthonormalize(std::span<float> rows, size_t n, size_t row) {
  const std::span<float> x = rows.subspan(row * n, n);
  for (int pass = 0; pass < 2; ++pass) {
    for (size_t i = 0; i < row; ++i) {
      const std::span<const float> y = rows.subspan(i * n, n);
      const float along = static_cast<float>(Dot(x, y));
      for (size_t k = 0; k < n; ++k) x[k] -= along * y[k];
    }
    const double length = std::sqrt(Dot(x, x));
    if (!(length > 1e-10)) return false;
    for (float& value : x) value = static_cast<float>(double{value} / length);
  }
  return true;
}

void FillRandom(Random& random, size_t n, size_t row, std::span<float> rows) {
  do {
    for (size_t k = 0; k < n; ++k) rows[row * n + k] = random.NextNormal();
  } while (!Orthonormalize(rows, n, row));
}

// The rows of one head among rows of all heads.
HostRows RowsOfHead(std::span<const float> rows, size_t width, size_t head, size_t dim) {
  HostRows values;
  for (size_t first = head * dim; first < rows.size(); first += width) {
    const std::span<const float> row = rows.subspan(first, dim);
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

// row C row' of one row of [n, n].
double VarianceAlong(std::span<const float> covariance, std::span<const float> rows, size_t row) {
  const size_t n = static_cast<size_t>(std::sqrt(static_cast<double>(covariance.size())) + 0.5);
  const std::span<const float> x = rows.subspan(row * n, n);
  double variance = 0.0;
  for (size_t i = 0; i < n; ++i) variance += double{x[i]} * Dot(covariance.subspan(i * n, n), x);
  return variance;
}

// Root mean square of o's columns along each direction of `values` [num_kv_heads, head_dim,
// head_dim], over the head's query heads.
std::vector<float> ColumnSizes(const ModelConfig& config, std::span<const float> o,
                               std::span<const float> values, int num_threads) {
  const size_t dim = static_cast<size_t>(config.head_dim);
  const size_t q_size = static_cast<size_t>(config.q_size());
  const size_t group = static_cast<size_t>(config.num_heads / config.num_kv_heads);
  std::vector<float> sizes(values.size() / dim);
  ParallelRows(num_threads, static_cast<int>(sizes.size()), [&](int begin, int end) {
    for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const std::span<const float> direction = values.subspan(i * dim, dim);
      const size_t first_head = i / dim * group;
      double sum = 0.0;
      for (size_t n = 0; n < o.size() / q_size; ++n) {
        for (size_t head = first_head; head < first_head + group; ++head) {
          const double column = Dot(o.subspan(n * q_size + head * dim, dim), direction);
          sum += column * column;
        }
      }
      const double size = std::sqrt(sum / static_cast<double>(group * (o.size() / q_size)));
      sizes[i] = size > 1e-20 ? static_cast<float>(size) : 1.0f;
    }
  });
  return sizes;
}

class RotationChooser {
 public:
  RotationChooser(Backend& backend, FloatSource& source, ResidualStream stream, double int4_share,
                  int num_threads)
      : backend_(backend),
        source_(source),
        config_(source.config()),
        stream_(std::move(stream)),
        int4_share_(int4_share),
        num_threads_(num_threads) {}

  Result<ModelRotation> Run();

 private:
  Status SeeResidual();
  Result<std::vector<float>> SeeValues(int kv_head);
  Result<std::vector<float>> RotateValues(int layer_idx);

  Backend& backend_;
  FloatSource& source_;
  const ModelConfig& config_;
  ResidualStream stream_;
  double int4_share_;
  int num_threads_;
  ActivationStatistics residual_;
};

Result<ModelRotation> RotationChooser::Run() {
  ModelRotation rotation;
  for (int i = 0; i < config_.num_layers; ++i) {
    COMET_ASSIGN_OR_RETURN(const FloatLayer layer, source_.ReadLayer(i));
    COMET_RETURN_IF_ERROR(CheckLayer(config_, i, layer));
    COMET_RETURN_IF_ERROR(SeeResidual());
    stream_.BeginLayer(layer);
    COMET_RETURN_IF_ERROR(stream_.Pass(LinearKind::kQkv, layer, layer.qkv).status());
    COMET_ASSIGN_OR_RETURN(std::vector<float> values, RotateValues(i));
    rotation.value_scales.push_back(ColumnSizes(config_, layer.o, values, num_threads_));
    rotation.values.push_back(std::move(values));
    COMET_RETURN_IF_ERROR(stream_.Pass(LinearKind::kO, layer, layer.o).status());
    COMET_RETURN_IF_ERROR(SeeResidual());
    COMET_RETURN_IF_ERROR(stream_.Pass(LinearKind::kGateUp, layer, layer.gate_up).status());
    COMET_ASSIGN_OR_RETURN(const WindowRows down_inputs,
                           stream_.Pass(LinearKind::kDown, layer, layer.down));
    rotation.down_factors.push_back(DownFactors(layer, down_inputs, stream_.hidden()));
  }
  const int hidden = config_.hidden_size;
  COMET_ASSIGN_OR_RETURN(
      rotation.residual,
      PrincipalThenRandom(backend_, residual_.gram, hidden,
                          hidden - NumInt4Channels(hidden, int4_share_), /*seed=*/0));
  return rotation;
}

// What the next norm divides by its root mean square.
Status RotationChooser::SeeResidual() {
  return AddRows(backend_,
                 {.num_channels = config_.hidden_size,
                  .sample_stride = kNoSample,
                  .inputs = stream_.hidden(),
                  .weighting = stream_.hidden()},
                 num_threads_, residual_);
}

// The covariance of one KV head's values as its query heads attend to them.
Result<std::vector<float>> RotationChooser::SeeValues(int kv_head) {
  const int group = config_.num_heads / config_.num_kv_heads;
  WindowRows values;
  WindowRows ones;
  for (const HostRows& attended : stream_.inputs()) {
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      values.push_back(RowsOfHead(attended, static_cast<size_t>(config_.q_size()),
                                  static_cast<size_t>(head),
                                  static_cast<size_t>(config_.head_dim)));
      ones.emplace_back(values.back().size(), 1.0f);
    }
  }
  ActivationStatistics seen;
  COMET_RETURN_IF_ERROR(AddRows(backend_,
                                {.num_channels = config_.head_dim,
                                 .sample_stride = kNoSample,
                                 .inputs = values,
                                 .weighting = ones},
                                num_threads_, seen));
  return std::move(seen.gram);
}

Result<std::vector<float>> RotationChooser::RotateValues(int layer_idx) {
  const int dim = config_.head_dim;
  const int num_int8 = config_.q_size() - NumInt4Channels(config_.q_size(), int4_share_);
  const size_t num_principal =
      static_cast<size_t>(num_int8 * config_.num_kv_heads / config_.num_heads);
  std::vector<std::vector<float>> covariances;
  std::vector<std::pair<double, size_t>> variances;  // Of every head's largest, and the head.
  const auto seed_of = [&](size_t head) {
    return static_cast<uint64_t>(layer_idx) * static_cast<uint64_t>(config_.num_kv_heads) + head +
           1;
  };
  for (int head = 0; head < config_.num_kv_heads; ++head) {
    COMET_ASSIGN_OR_RETURN(std::vector<float> covariance, SeeValues(head));
    const int count = std::min(dim, static_cast<int>(num_principal));
    const size_t head_idx = static_cast<size_t>(head);
    COMET_ASSIGN_OR_RETURN(
        const std::vector<float> basis,
        PrincipalThenRandom(backend_, covariance, dim, count, seed_of(head_idx)));
    for (int i = 0; i < count; ++i) {
      variances.emplace_back(VarianceAlong(covariance, basis, static_cast<size_t>(i)), head_idx);
    }
    covariances.push_back(std::move(covariance));
  }
  // The largest of all heads, which o's INT8 channels can hold.
  std::ranges::stable_sort(variances, std::greater<>(), &std::pair<double, size_t>::first);
  variances.resize(std::min(variances.size(), num_principal));
  std::vector<float> bases;
  for (size_t head = 0; head < covariances.size(); ++head) {
    const auto count = std::ranges::count(variances, head, &std::pair<double, size_t>::second);
    COMET_ASSIGN_OR_RETURN(const std::vector<float> basis,
                           PrincipalThenRandom(backend_, covariances[head], dim,
                                               static_cast<int>(count), seed_of(head)));
    bases.insert(bases.end(), basis.begin(), basis.end());
  }
  return bases;
}

}  // namespace

Result<std::vector<float>> PrincipalThenRandom(Backend& backend, std::span<const float> covariance,
                                               int n, int num_principal, uint64_t seed) {
  const size_t width = static_cast<size_t>(n);
  Random random(seed);
  std::vector<float> rows(width * width);
  for (size_t i = 0; i < width; ++i) FillRandom(random, width, i, rows);
  if (num_principal == 0) return rows;
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<PackedLinear> packed,
                         PackFloats(*backend.ops, covariance, n, n));
  const size_t count = static_cast<size_t>(num_principal);
  HostRows principal(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(count * width));
  for (int i = 0; i < kNumIterations; ++i) {
    COMET_ASSIGN_OR_RETURN(principal, MultiplyByTransposed(backend, principal, *packed));
    for (size_t row = 0; row < count; ++row) {
      // A covariance of lower rank leaves directions that are all the same.
      if (!Orthonormalize(principal, width, row)) FillRandom(random, width, row, principal);
    }
  }
  std::ranges::copy(principal, rows.begin());
  for (size_t row = count; row < width; ++row) {
    if (!Orthonormalize(rows, width, row)) FillRandom(random, width, row, rows);
  }
  return rows;
}

Result<ModelRotation> ChooseRotation(Backend& backend, FloatSource& source, WindowRows embedded,
                                     double int4_share, int num_threads) {
  COMET_ASSIGN_OR_RETURN(
      ResidualStream stream,
      ResidualStream::Create(backend, source.config(), std::move(embedded), num_threads));
  return RotationChooser(backend, source, std::move(stream), int4_share, num_threads).Run();
}

}  // namespace comet
