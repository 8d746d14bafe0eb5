#include "engine/loader/rescaled_source.h"

#include <span>
#include <utility>
#include <vector>

#include "kernels/base/random.h"

namespace comet {
namespace {

constexpr float kFactorMin = 0.7f;
constexpr float kFactorMax = 1.4f;

std::vector<float> RandomFactors(Random& random, int count) {
  std::vector<float> factors;
  factors.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) factors.push_back(random.NextFloat(kFactorMin, kFactorMax));
  return factors;
}

// Rows of a matrix with factors.size() rows.
void ScaleRows(std::span<float> matrix, const std::vector<float>& factors) {
  const size_t width = matrix.size() / factors.size();
  for (size_t i = 0; i < matrix.size(); ++i) matrix[i] *= factors[i / width];
}

void DivideColumns(std::span<float> matrix, const std::vector<float>& factors) {
  for (size_t i = 0; i < matrix.size(); ++i) matrix[i] /= factors[i % factors.size()];
}

class RescaledSource final : public FloatSource {
 public:
  RescaledSource(std::unique_ptr<FloatSource> source, uint64_t seed)
      : source_(std::move(source)), seed_(seed) {}

  const ModelConfig& config() const override { return source_->config(); }
  const Vocabulary& vocabulary() const override { return source_->vocabulary(); }
  const std::vector<NamedTemplate>& chat_templates() const override {
    return source_->chat_templates();
  }
  Result<FloatLayer> ReadLayer(int layer_idx) override;
  Result<std::vector<float>> ReadEmbedding() override { return source_->ReadEmbedding(); }
  Result<std::vector<float>> ReadFinalNorm() override { return source_->ReadFinalNorm(); }
  Result<std::vector<float>> ReadLmHead() override { return source_->ReadLmHead(); }

 private:
  void RescaleValues(Random& random, FloatLayer& layer) const;

  std::unique_ptr<FloatSource> source_;
  uint64_t seed_;
};

Result<FloatLayer> RescaledSource::ReadLayer(int layer_idx) {
  COMET_ASSIGN_OR_RETURN(FloatLayer layer, source_->ReadLayer(layer_idx));
  Random random(seed_ * 1'000'003 + static_cast<uint64_t>(layer_idx));
  const std::vector<float> input = RandomFactors(random, config().hidden_size);
  ScaleRows(layer.input_norm, input);
  DivideColumns(layer.qkv, input);
  const std::vector<float> post_attention = RandomFactors(random, config().hidden_size);
  ScaleRows(layer.post_attention_norm, post_attention);
  DivideColumns(layer.gate_up, post_attention);
  const std::vector<float> up = RandomFactors(random, config().ffn_size);
  ScaleRows(std::span(layer.gate_up).last(layer.gate_up.size() / 2), up);
  DivideColumns(layer.down, up);
  RescaleValues(random, layer);
  return layer;
}

void RescaledSource::RescaleValues(Random& random, FloatLayer& layer) const {
  const int kv_size = config().num_kv_heads * config().head_dim;
  const std::vector<float> values = RandomFactors(random, kv_size);
  const size_t num_rows = static_cast<size_t>(kv_size);
  const size_t width = static_cast<size_t>(config().hidden_size);
  ScaleRows(std::span(layer.qkv).last(num_rows * width), values);
  if (!layer.qkv_bias.empty()) ScaleRows(std::span(layer.qkv_bias).last(num_rows), values);
  const int group = config().num_heads / config().num_kv_heads;
  std::vector<float> of_queries;
  for (int head = 0; head < config().num_heads; ++head) {
    const auto first = values.begin() + (head / group) * config().head_dim;
    of_queries.insert(of_queries.end(), first, first + config().head_dim);
  }
  DivideColumns(layer.o, of_queries);
}

}  // namespace

std::unique_ptr<FloatSource> MakeRescaledSource(std::unique_ptr<FloatSource> source,
                                                uint64_t seed) {
  return std::make_unique<RescaledSource>(std::move(source), seed);
}

}  // namespace comet
