#include "engine/model/synthetic_model.h"

#include <algorithm>
#include <numeric>

#include "kernels/base/random.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// Seeds of a model's parts, apart from each other and from other models'.
uint64_t SeedOf(uint64_t model_seed, int part_idx) {
  return MixBits(model_seed) + static_cast<uint64_t>(part_idx);
}

constexpr int kPartsOfLayer = kNumLinearKinds;
constexpr int kLmHeadPart = -1;
constexpr int kEmbeddingPart = -2;

int PartOf(int layer_idx, LinearKind kind) {
  return layer_idx * kPartsOfLayer + static_cast<int>(kind);
}

}  // namespace

RandomLinear SyntheticModel::Linear(int layer_idx, LinearKind kind) const {
  RandomLinear linear{.kind = WeightKind::kW4ax, .seed = SeedOf(seed, PartOf(layer_idx, kind))};
  switch (kind) {
    case LinearKind::kQkv:
      linear.num_outputs = config.qkv_size();
      linear.num_inputs = config.hidden_size;
      break;
    case LinearKind::kO:
      linear.num_outputs = config.hidden_size;
      linear.num_inputs = config.q_size();
      break;
    case LinearKind::kGateUp:
      linear.num_outputs = 2 * config.ffn_size;
      linear.num_inputs = config.hidden_size;
      break;
    case LinearKind::kDown:
      linear.num_outputs = config.hidden_size;
      linear.num_inputs = config.ffn_size;
      break;
  }
  const int num_blocks = static_cast<int>(int4_share * linear.num_inputs) / kBlockChannels;
  linear.num_int4_channels = num_blocks * kBlockChannels;
  return linear;
}

RandomLinear SyntheticModel::LmHead() const {
  constexpr float kLogitsDeviation = 3.0f;  // As peaked as a real model's.
  return {.kind = WeightKind::kInt8,
          .num_outputs = config.vocab_size,
          .num_inputs = config.hidden_size,
          .seed = SeedOf(seed, kLmHeadPart),
          .gain = kLogitsDeviation};
}

RandomLinear SyntheticModel::Embedding() const {
  return {.kind = WeightKind::kFloat,
          .num_outputs = config.vocab_size,
          .num_inputs = config.hidden_size,
          .seed = SeedOf(seed, kEmbeddingPart)};
}

std::vector<int32_t> SyntheticModel::GatherOrder(int layer_idx, LinearKind kind) const {
  if (kind == LinearKind::kDown) return {};
  std::vector<int32_t> order(static_cast<size_t>(Linear(layer_idx, kind).num_inputs));
  std::iota(order.begin(), order.end(), 0);
  Random random(SeedOf(seed, PartOf(layer_idx, kind)));
  for (int i = static_cast<int>(order.size()) - 1; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(random.NextInt(i + 1))]);
  }
  return order;
}

std::vector<float> SyntheticModel::QkvBias(int layer_idx) const {
  std::vector<float> bias(has_qkv_bias ? static_cast<size_t>(config.qkv_size()) : 0);
  Random random(SeedOf(seed, PartOf(layer_idx, LinearKind::kQkv)) ^ 1);
  for (float& value : bias) value = random.NextFloat(-0.5f, 0.5f);
  return bias;
}

Vocabulary SyntheticModel::MakeVocabulary() const {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::kSentencePiece;
  const size_t vocab_size = static_cast<size_t>(config.vocab_size);
  vocabulary.pieces.reserve(vocab_size);
  for (int id = 0; id < config.vocab_size; ++id) vocabulary.pieces.push_back(StrCat("w", id));
  vocabulary.types.assign(vocab_size, TokenType::kNormal);
  vocabulary.types.front() = TokenType::kUnknown;
  vocabulary.scores.assign(vocab_size, 0.0f);
  vocabulary.unknown_id = 0;
  return vocabulary;
}

}  // namespace comet
