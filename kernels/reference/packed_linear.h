#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops/linear.h"

namespace comet::reference {

// Weights with nothing packed: gamma * v written out, or floats widened to f32. Row-major [N, K].
struct ReferenceLinear final : PackedLinear {
  WeightKind weight_kind = WeightKind::kFloat;
  int outputs = 0;
  int inputs = 0;
  int int4_channels = 0;
  std::vector<int8_t> codes;  // gamma * v, or the INT8 codes.
  std::vector<float> scale;   // [N]
  std::vector<float> values;  // kFloat.

  WeightKind kind() const override { return weight_kind; }
  int num_outputs() const override { return outputs; }
  int num_inputs() const override { return inputs; }
  int num_int4_channels() const override { return int4_channels; }
  int64_t num_bytes() const override {
    return static_cast<int64_t>(codes.size() + (scale.size() + values.size()) * sizeof(float));
  }
};

// The weights as this back end's own; anything else is the caller's bug.
const ReferenceLinear& Unpack(const PackedLinear& weights);

ReferenceLinear Pack(const W4axWeights& weights);
ReferenceLinear Pack(const Int8Weights& weights);
ReferenceLinear Pack(const FloatWeights& weights);

}  // namespace comet::reference
