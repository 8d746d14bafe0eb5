#include "kernels/reference/packed_linear.h"

#include "kernels/base/packed_codes.h"
#include "kernels/reference/elements.h"

namespace comet::reference {
const ReferenceLinear& Unpack(const PackedLinear& weights) {
  const auto* packed = dynamic_cast<const ReferenceLinear*>(&weights);
  COMET_CHECK_MSG(packed != nullptr, "weights were packed by another back end");
  return *packed;
}

ReferenceLinear Pack(const W4axWeights& weights) {
  ReferenceLinear packed;
  packed.weight_kind = WeightKind::kW4ax;
  packed.outputs = weights.codes.dim(0);
  packed.inputs = 2 * weights.codes.dim(1);
  packed.int4_channels = weights.num_int4_channels;
  const int num_blocks = weights.steps.dim(1);
  for (int n = 0; n < packed.outputs; ++n) {
    const uint8_t* row_codes = weights.codes.as<uint8_t>() + int64_t{n} * weights.codes.dim(1);
    const int8_t* row_steps = weights.steps.as<int8_t>() + int64_t{n} * num_blocks;
    for (int k = 0; k < packed.inputs; ++k) {
      const int product = row_steps[k / kBlockChannels] * CodeAt(row_codes, static_cast<size_t>(k));
      packed.codes.push_back(static_cast<int8_t>(product));
    }
    packed.scale.push_back(LoadFloat(weights.scale, n));
  }
  return packed;
}

ReferenceLinear Pack(const Int8Weights& weights) {
  ReferenceLinear packed;
  packed.weight_kind = WeightKind::kInt8;
  packed.outputs = weights.codes.dim(0);
  packed.inputs = weights.codes.dim(1);
  const int8_t* codes = weights.codes.as<int8_t>();
  packed.codes.assign(codes, codes + weights.codes.shape().num_elements());
  for (int n = 0; n < packed.outputs; ++n) packed.scale.push_back(LoadFloat(weights.scale, n));
  return packed;
}

ReferenceLinear Pack(const FloatWeights& weights) {
  ReferenceLinear packed;
  packed.weight_kind = WeightKind::kFloat;
  packed.outputs = weights.values.dim(0);
  packed.inputs = weights.values.dim(1);
  for (int n = 0; n < packed.outputs; ++n) {
    for (int k = 0; k < packed.inputs; ++k)
      packed.values.push_back(LoadFloat(weights.values, n, k));
  }
  return packed;
}

}  // namespace comet::reference
