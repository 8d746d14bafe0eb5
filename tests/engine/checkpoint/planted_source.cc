#include "tests/engine/checkpoint/planted_source.h"

#include <cmath>
#include <cstddef>
#include <string>

#include "kernels/base/random.h"
#include "tests/engine/letter_pairs.h"
#include "tests/engine/normal_values.h"
#include "tests/engine/random_model.h"

namespace comet {
namespace {

size_t Size(int value) { return static_cast<size_t>(value); }

class PlantedSource final : public FloatSource {
 public:
  explicit PlantedSource(const PlantedOptions& options) : options_(options) {
    config_.name = "planted";
    config_.hidden_size = kPlantedChannels;
    config_.num_layers = options.num_layers;
    config_.num_heads = 9;
    config_.num_kv_heads = 3;
    config_.head_dim = 64;
    config_.rotary_dim = 64;
    config_.ffn_size = kPlantedChannels;
    config_.vocab_size = kLetterPairVocab;
    config_.context_length_max = 1024;
    config_.rope.theta = 1e6;  // Qwen2's.
    config_.bos_id = 1;
    config_.eos_ids = {kEosId};
    vocabulary_.add_space_prefix = false;
  }

  const ModelConfig& config() const override { return config_; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  const std::vector<NamedTemplate>& chat_templates() const override { return chat_templates_; }

  Result<FloatLayer> ReadLayer(int layer_idx) override {
    Random random(options_.seed * 100 + static_cast<uint64_t>(layer_idx));
    FloatLayer layer = RandomLayer(random, config_, /*gain=*/1.0f);
    if (options_.k_bias_norm > 0.0f) layer.qkv_bias = KBias(random);
    for (const int channel : options_.outliers) Plant(channel, layer);
    return layer;
  }

  Result<std::vector<float>> ReadEmbedding() override {
    Random random(options_.seed * 100 + 50);
    return NormalValues(random, Size(config_.vocab_size) * Size(config_.hidden_size), 1.0f);
  }
  Result<std::vector<float>> ReadFinalNorm() override {
    return std::vector<float>(Size(config_.hidden_size), 1.0f);
  }
  Result<std::vector<float>> ReadLmHead() override {
    Random random(options_.seed * 100 + 51);
    return RandomMatrix(random, config_.vocab_size, config_.hidden_size, /*gain=*/1.0f);
  }

 private:
  // Rows of q and v stay without a bias.
  std::vector<float> KBias(Random& random) const {
    std::vector<float> bias(Size(config_.qkv_size()), 0.0f);
    const int half = config_.head_dim / 2;
    for (int head = 0; head < config_.num_kv_heads; ++head) {
      float* head_bias = bias.data() + config_.q_size() + head * config_.head_dim;
      float sum_sq = 0.0f;
      for (int i = 0; i < half; ++i) {
        if (options_.bias_pairs > 0 && i < half - options_.bias_pairs) continue;
        for (const int channel : {i, i + half}) {
          head_bias[channel] = random.NextNormal();
          sum_sq += head_bias[channel] * head_bias[channel];
        }
      }
      for (int i = 0; i < config_.head_dim; ++i) {
        head_bias[i] *= options_.k_bias_norm / std::sqrt(sum_sq);
      }
    }
    return bias;
  }

  static void ScaleColumn(std::vector<float>& matrix, int column, float factor) {
    for (size_t i = Size(column); i < matrix.size(); i += kPlantedChannels) matrix[i] *= factor;
  }
  static void ScaleRow(std::vector<float>& matrix, int row, float factor) {
    float* values = matrix.data() + Size(row) * kPlantedChannels;
    for (int i = 0; i < kPlantedChannels; ++i) values[i] *= factor;
  }

  // Makes the activation larger at its producer and the weights that read it smaller.
  void Plant(int channel, FloatLayer& layer) const {
    const float factor = options_.outlier_factor;
    layer.input_norm[Size(channel)] *= factor;
    ScaleColumn(layer.qkv, channel, 1.0f / factor);
    layer.post_attention_norm[Size(channel)] *= factor;
    ScaleColumn(layer.gate_up, channel, 1.0f / factor);
    ScaleRow(layer.gate_up, config_.ffn_size + channel, factor);
    ScaleColumn(layer.down, channel, 1.0f / factor);
    PlantValue(channel, layer);
  }

  // Channels of attention's output come from V, one row for the heads of a group: those of the
  // channel's siblings in its group are planted too, so `channel` names the first head's.
  void PlantValue(int channel, FloatLayer& layer) const {
    const int group = config_.num_heads / config_.num_kv_heads;
    const int head = channel / config_.head_dim;
    const int kv_head = head / group;
    if (head % group != 0) return;
    const int within = channel % config_.head_dim;
    ScaleRow(layer.qkv, config_.q_size() + config_.kv_size() + kv_head * config_.head_dim + within,
             options_.outlier_factor);
    for (int i = 0; i < group; ++i) {
      ScaleColumn(layer.o, (kv_head * group + i) * config_.head_dim + within,
                  1.0f / options_.outlier_factor);
    }
  }

  PlantedOptions options_;
  ModelConfig config_;
  Vocabulary vocabulary_ = LetterPairVocabulary();
  std::vector<NamedTemplate> chat_templates_;
};

}  // namespace

std::unique_ptr<FloatSource> MakePlantedSource(const PlantedOptions& options) {
  return std::make_unique<PlantedSource>(options);
}

std::string PlantedText(int num_tokens, uint64_t seed) {
  Random random(seed);
  std::string text;
  for (int i = 0; i < num_tokens; ++i) {
    const int token = random.NextInt(256);
    text += static_cast<char>('a' + token / 16);
    text += static_cast<char>('a' + token % 16);
  }
  return text;
}

std::vector<int> RandomPairIds(int num_tokens) {
  Random random(9);
  std::vector<int> ids;
  for (int i = 0; i < num_tokens; ++i) ids.push_back(kFirstPairId + random.NextInt(256));
  return ids;
}

}  // namespace comet
