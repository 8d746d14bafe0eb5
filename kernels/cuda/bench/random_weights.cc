#include "kernels/cuda/bench/random_weights.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/math.h"
#include "kernels/base/random.h"

namespace comet::cuda {
namespace {

void FillBytes(std::vector<uint8_t>& bytes, uint64_t seed) {
  for (size_t i = 0; i < bytes.size(); i += 8) {
    const uint64_t bits = MixBits(seed + i / 8);
    std::memcpy(bytes.data() + i, &bits, std::min<size_t>(8, bytes.size() - i));
  }
}

}  // namespace

RandomWeights::RandomWeights(WeightKind kind, int num_outputs, int num_inputs,
                             int num_int4_channels, uint64_t seed)
    : kind_(kind),
      num_outputs_(num_outputs),
      num_inputs_(num_inputs),
      num_int4_channels_(num_int4_channels) {
  Random random(seed);
  const size_t num_rows = static_cast<size_t>(num_outputs);
  const size_t row_bytes =
      static_cast<size_t>(kind == WeightKind::kW4ax ? num_inputs / 2 : num_inputs);
  codes_.resize(num_rows * row_bytes);
  FillBytes(codes_, random.NextBits());
  if (kind == WeightKind::kW4ax) {
    steps_.resize(num_rows * static_cast<size_t>(CeilDiv(num_inputs, kBlockChannels)));
    for (int8_t& step : steps_) step = static_cast<int8_t>(random.NextInt(32) - 15);
  } else {
    std::replace(codes_.begin(), codes_.end(), uint8_t{0x80}, uint8_t{0});  // -128 is no code.
  }
  scale_.resize(num_rows);
  for (float& scale : scale_) scale = random.NextFloat(1e-5f, 1e-4f);
}

Result<std::unique_ptr<PackedLinear>> RandomWeights::Pack(Ops& ops) const {
  const ConstTensorView scale(scale_.data(), DType::kF32, {num_outputs_});
  if (kind_ == WeightKind::kInt8) {
    return ops.PackLinear(Int8Weights{
        .codes = {codes_.data(), DType::kI8, {num_outputs_, num_inputs_}}, .scale = scale});
  }
  const int num_blocks = CeilDiv(num_inputs_, kBlockChannels);
  return ops.PackLinear(
      W4axWeights{.codes = {codes_.data(), DType::kU8, {num_outputs_, num_inputs_ / 2}},
                  .steps = {steps_.data(), DType::kI8, {num_outputs_, num_blocks}},
                  .scale = scale,
                  .num_int4_channels = num_int4_channels_});
}

}  // namespace comet::cuda
