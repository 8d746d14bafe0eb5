#pragma once

#include <span>
#include <vector>

#include "engine/model/model_config.h"
#include "engine/model/rope.h"
#include "engine/quantizer/attention_gradient.h"
#include "engine/quantizer/host_rows.h"

namespace comet {

// The parts of a decoder layer between its linears, on host rows in fp32: what calibration and
// tuning run layers with. Rows of one window lie behind each other, from position 0.

// Root-mean-square norm: hidden * weight * factor / rms(hidden).
HostRows NormRows(std::span<const float> hidden, std::span<const float> weight,
                  std::span<const float> factor, float epsilon, int num_threads);

// What such a norm was made of.
struct NormedRows {
  std::span<const float> hidden;
  std::span<const float> weight;
  std::span<const float> factor;
  float epsilon = 0.0f;
};
// Adds the gradient of the above in its rows and its factor.
void AddNormRowsGradient(const NormedRows& rows, std::span<const float> d_normed, int num_threads,
                         std::span<float> d_hidden, std::span<float> d_factor);

// silu(gate) * up of rows [2 ffn].
HostRows SiluMulRows(std::span<const float> gate_up, size_t ffn, int num_threads);
HostRows SiluMulRowsGradient(std::span<const float> gate_up, size_t ffn,
                             std::span<const float> d_out, int num_threads);

// Rows q | k | v to three sets of rows, and back.
AttentionRows SplitHeads(const ModelConfig& config, std::span<const float> qkv, int num_threads);
HostRows JoinHeads(const ModelConfig& config, const AttentionRows& rows, int num_threads);

// Rotary position embedding of every head, in split-half pairs; direction -1 is the transpose.
void RotateHeads(const ModelConfig& config, const RopeTables& rope, size_t num_tokens,
                 float direction, int num_threads, std::span<float> rows);

// Adds a vector to every row; an empty one adds nothing.
void AddToRows(std::span<const float> vector, std::span<float> rows);

// Adds values one by one.
void AddTo(std::span<const float> values, int num_threads, std::span<float> sum);

AttentionShape AttentionShapeOf(const ModelConfig& config, size_t num_tokens);

}  // namespace comet
