#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/ops.h"

namespace comet::cuda {

// Random weights of one linear layer in host memory, made in a fraction of a second where they are
// hundreds of megabytes.
class RandomWeights {
 public:
  // `kind` is kW4ax or kInt8.
  RandomWeights(WeightKind kind, int num_outputs, int num_inputs, int num_int4_channels,
                uint64_t seed);

  Result<std::unique_ptr<PackedLinear>> Pack(Ops& ops) const;

 private:
  const WeightKind kind_;
  const int num_outputs_;
  const int num_inputs_;
  const int num_int4_channels_;
  std::vector<uint8_t> codes_;
  std::vector<int8_t> steps_;
  std::vector<float> scale_;
};

}  // namespace comet::cuda
