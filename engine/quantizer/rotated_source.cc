#include "engine/quantizer/rotated_source.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "engine/quantizer/down_smoothing.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/parallel_rows.h"
#include "engine/quantizer/transposed.h"
#include "kernels/base/row_functions.h"

namespace comet {
namespace {

void MultiplyColumns(std::span<float> matrix, std::span<const float> factors) {
  for (size_t first = 0; first < matrix.size(); first += factors.size()) {
    for (size_t k = 0; k < factors.size(); ++k) matrix[first + k] *= factors[k];
  }
}

class RotatedSource final : public FloatSource {
 public:
  RotatedSource(FloatSource& source, Backend& backend, ModelRotation rotation, int num_threads)
      : source_(source),
        backend_(backend),
        num_threads_(num_threads),
        rotation_(std::move(rotation)),
        config_(source.config()) {
    config_.tied_embeddings = false;
  }

  const ModelConfig& config() const override { return config_; }
  const Vocabulary& vocabulary() const override { return source_.vocabulary(); }
  const std::vector<NamedTemplate>& chat_templates() const override {
    return source_.chat_templates();
  }
  Result<FloatLayer> ReadLayer(int layer_idx) override;
  Result<std::vector<float>> ReadEmbedding() override {
    COMET_ASSIGN_OR_RETURN(const std::vector<float> table, source_.ReadEmbedding());
    return FromStream(table);
  }
  Result<std::vector<float>> ReadFinalNorm() override {
    return std::vector<float>(static_cast<size_t>(config_.hidden_size), 1.0f);
  }
  Result<std::vector<float>> ReadLmHead() override;

 private:
  // The columns of `matrix` [N, hidden], which meet the residual stream, in its basis.
  Result<std::vector<float>> FromStream(std::span<const float> matrix) {
    COMET_ASSIGN_OR_RETURN(
        const HostRows product,
        MultiplyByTransposed(backend_, matrix, rotation_.residual, config_.hidden_size));
    return std::vector<float>(product.begin(), product.end());
  }
  // The rows of `matrix` [hidden, K], which are added to it.
  Result<std::vector<float>> ToStream(std::span<const float> matrix) {
    const int num_columns = static_cast<int>(matrix.size()) / config_.hidden_size;
    COMET_ASSIGN_OR_RETURN(
        const HostRows product,
        MultiplyByTransposed(backend_, rotation_.residual,
                             Transposed(matrix, num_columns, num_threads_), config_.hidden_size));
    return std::vector<float>(product.begin(), product.end());
  }
  void RotateValues(std::span<const float> bases, std::span<const float> scales,
                    FloatLayer& layer) const;

  FloatSource& source_;
  Backend& backend_;
  int num_threads_;
  ModelRotation rotation_;
  ModelConfig config_;
};

Result<FloatLayer> RotatedSource::ReadLayer(int layer_idx) {
  COMET_ASSIGN_OR_RETURN(FloatLayer layer, source_.ReadLayer(layer_idx));
  MultiplyColumns(layer.qkv, layer.input_norm);
  std::ranges::fill(layer.input_norm, 1.0f);
  MultiplyColumns(layer.gate_up, layer.post_attention_norm);
  std::ranges::fill(layer.post_attention_norm, 1.0f);
  COMET_ASSIGN_OR_RETURN(layer.qkv, FromStream(layer.qkv));
  COMET_ASSIGN_OR_RETURN(layer.gate_up, FromStream(layer.gate_up));
  RotateValues(rotation_.values[static_cast<size_t>(layer_idx)],
               rotation_.value_scales[static_cast<size_t>(layer_idx)], layer);
  SmoothDown(rotation_.down_factors[static_cast<size_t>(layer_idx)], layer);
  COMET_ASSIGN_OR_RETURN(layer.o, ToStream(layer.o));
  COMET_ASSIGN_OR_RETURN(layer.down, ToStream(layer.down));
  return layer;
}

Result<std::vector<float>> RotatedSource::ReadLmHead() {
  COMET_ASSIGN_OR_RETURN(std::vector<float> head, source_.config().tied_embeddings
                                                      ? source_.ReadEmbedding()
                                                      : source_.ReadLmHead());
  COMET_ASSIGN_OR_RETURN(const std::vector<float> norm, source_.ReadFinalNorm());
  MultiplyColumns(head, norm);
  return FromStream(head);
}

// Rows of v, its bias and columns of o, each head in its basis.
void RotatedSource::RotateValues(std::span<const float> bases, std::span<const float> scales,
                                 FloatLayer& layer) const {
  const size_t dim = static_cast<size_t>(config_.head_dim);
  const size_t hidden = static_cast<size_t>(config_.hidden_size);
  const size_t q_size = static_cast<size_t>(config_.q_size());
  const size_t first_value = q_size + static_cast<size_t>(config_.kv_size());
  const size_t group = static_cast<size_t>(config_.num_heads / config_.num_kv_heads);
  const std::vector<float> qkv = layer.qkv;
  const std::vector<float> bias = layer.qkv_bias;
  const std::vector<float> o = layer.o;
  ParallelRows(num_threads_, config_.kv_size(), [&](int begin, int end) {
    for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const size_t head = i / dim;
      const std::span<const float> direction = bases.subspan(i * dim, dim);
      const size_t first_row = first_value + head * dim;
      float* row = layer.qkv.data() + (first_value + i) * hidden;
      std::fill(row, row + hidden, 0.0f);
      float bias_sum = 0.0f;
      for (size_t j = 0; j < dim; ++j) {
        const float* source = qkv.data() + (first_row + j) * hidden;
        for (size_t k = 0; k < hidden; ++k) row[k] += scales[i] * direction[j] * source[k];
        if (!bias.empty()) bias_sum += scales[i] * direction[j] * bias[first_row + j];
      }
      if (!bias.empty()) layer.qkv_bias[first_value + i] = bias_sum;
      for (size_t query = head * group; query < (head + 1) * group; ++query) {
        for (size_t n = 0; n < hidden; ++n) {
          const std::span<const float> source(o.data() + n * q_size + query * dim, dim);
          layer.o[n * q_size + query * dim + i % dim] = DotOf(direction, source) / scales[i];
        }
      }
    }
  });
}

}  // namespace

std::unique_ptr<FloatSource> MakeRotatedSource(FloatSource& source, Backend& backend,
                                               ModelRotation rotation, int num_threads) {
  return std::make_unique<RotatedSource>(source, backend, std::move(rotation), num_threads);
}

}  // namespace comet
