#include "engine/quantizer/key_smoothing.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace comet {
namespace {

// Factors stay within this of 1: beyond it a pair is silent, not unbalanced.
constexpr double kFactorMax = 32.0;

// w H w' of one row: its output's mean square, times a constant.
double Activity(std::span<const float> row, std::span<const float> gram) {
  const size_t n = row.size();
  double activity = 0.0;
  for (size_t i = 0; i < n; ++i) {
    float sum = 0.0f;
    for (size_t j = 0; j < n; ++j) sum += gram[i * n + j] * row[j];
    activity += double{row[i]} * double{sum};
  }
  return activity;
}

class Smoother {
 public:
  Smoother(const ModelConfig& config, std::span<const float> gram, FloatLayer& layer)
      : config_(config), gram_(gram), layer_(layer) {}

  // Channels of one KV head that must share a factor.
  void SmoothChannels(int kv_head, std::span<const int> channels);

 private:
  std::span<float> Row(size_t row) {
    const size_t width = static_cast<size_t>(config_.hidden_size);
    return std::span(layer_.qkv).subspan(row * width, width);
  }
  void Scale(size_t row, float factor) {
    for (float& weight : Row(row)) weight *= factor;
    if (!layer_.qkv_bias.empty()) layer_.qkv_bias[row] *= factor;
  }

  const ModelConfig& config_;
  std::span<const float> gram_;
  FloatLayer& layer_;
};

void Smoother::SmoothChannels(int kv_head, std::span<const int> channels) {
  const int group = config_.num_heads / config_.num_kv_heads;
  std::vector<size_t> key_rows;
  std::vector<size_t> query_rows;
  for (const int channel : channels) {
    key_rows.push_back(
        static_cast<size_t>(config_.q_size() + kv_head * config_.head_dim + channel));
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      query_rows.push_back(static_cast<size_t>(head * config_.head_dim + channel));
    }
  }
  double keys = 0.0;
  for (const size_t row : key_rows) keys += Activity(Row(row), gram_);
  double queries = 0.0;
  for (const size_t row : query_rows) queries += Activity(Row(row), gram_);
  queries /= group;
  if (!(keys > 0.0) || !(queries > 0.0)) return;
  const double factor = std::clamp(std::pow(keys / queries, 0.25), 1.0 / kFactorMax, kFactorMax);
  for (const size_t row : key_rows) Scale(row, static_cast<float>(1.0 / factor));
  for (const size_t row : query_rows) Scale(row, static_cast<float>(factor));
}

}  // namespace

void SmoothKeys(const ModelConfig& config, std::span<const float> gram, FloatLayer& layer) {
  Smoother smoother(config, gram, layer);
  const int half = config.rotary_dim / 2;
  for (int kv_head = 0; kv_head < config.num_kv_heads; ++kv_head) {
    for (int i = 0; i < half; ++i) {
      const int pair[] = {i, half + i};
      smoother.SmoothChannels(kv_head, pair);
    }
    for (int i = config.rotary_dim; i < config.head_dim; ++i) {
      smoother.SmoothChannels(kv_head, {&i, 1});
    }
  }
}

}  // namespace comet
