#pragma once

#include <cstdint>
#include <vector>

#include "engine/loader/checkpoint_writer.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"
#include "kernels/ops/linear_input.h"

namespace comet {

// How a quantised linear layer holds its inputs, on host rows.
class ActivationRounding {
 public:
  // `hadamard`: see LayerPrecision::down_hadamard.
  ActivationRounding(const QuantizedLinear& linear, bool hadamard);

  // Replaces rows [num_tokens, K] in the producer's order by the values that the integer product
  // multiplies in that mode, in the same order. Errors: those of the back end.
  Status Round(Backend& backend, ActivationMode mode, int num_threads,
               std::vector<float>& rows) const;

 private:
  // Row by row: the layer's order and basis, and back.
  void ToLayer(int num_threads, std::vector<float>& rows) const;
  void FromLayer(int num_threads, std::vector<float>& rows) const;

  int num_channels_;
  int num_int4_;
  float clip_;
  bool hadamard_;
  std::vector<int32_t> gather_;  // Empty: the identity.
};

}  // namespace comet
