#include "engine/quantizer/key_smoothing.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/row_functions.h"

namespace comet {
namespace {

// Factors stay within this of 1: beyond it a pair is silent, not unbalanced.
constexpr double kFactorMax = 32.0;

// w H w' of every row of `rows`: its output's mean square, times a constant.
std::vector<double> Activities(std::span<const float> rows, std::span<const float> gram,
                               size_t width, int num_threads) {
  std::vector<double> activities(rows.size() / width);
  ParallelRows(num_threads, static_cast<int>(activities.size()), [&](int first, int last) {
    for (size_t r = static_cast<size_t>(first); r < static_cast<size_t>(last); ++r) {
      const std::span<const float> row = rows.subspan(r * width, width);
      for (size_t i = 0; i < width; ++i) {
        activities[r] += double{row[i]} * double{DotOf(gram.subspan(i * width, width), row)};
      }
    }
  });
  return activities;
}

class Smoother {
 public:
  Smoother(const ModelConfig& config, std::vector<double> activities, FloatLayer& layer)
      : config_(config), activities_(std::move(activities)), layer_(layer) {}

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
  std::vector<double> activities_;  // Of the rows of queries and keys as they came.
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
  for (const size_t row : key_rows) keys += activities_[row];
  double queries = 0.0;
  for (const size_t row : query_rows) queries += activities_[row];
  queries /= group;
  if (!(keys > 0.0) || !(queries > 0.0)) return;
  const double factor = std::clamp(std::pow(keys / queries, 0.25), 1.0 / kFactorMax, kFactorMax);
  for (const size_t row : key_rows) Scale(row, static_cast<float>(1.0 / factor));
  for (const size_t row : query_rows) Scale(row, static_cast<float>(factor));
}

}  // namespace

void SmoothKeys(const ModelConfig& config, std::span<const float> gram, int num_threads,
                FloatLayer& layer) {
  const size_t width = static_cast<size_t>(config.hidden_size);
  const size_t num_rows = static_cast<size_t>(config.q_size() + config.kv_size());
  Smoother smoother(config,
                    Activities(std::span<const float>(layer.qkv).first(num_rows * width), gram,
                               width, num_threads),
                    layer);
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
