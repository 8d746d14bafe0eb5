#pragma once

#include "engine/loader/float_source.h"
#include "engine/model/model_config.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/make_backend.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet {

// Error of a layer's attention output when keys are held in few bits, without and with a Hadamard
// of queries and keys: root of the squared difference over the squared output with fp32 keys and
// values.
struct KeyHadamardChoice {
  double plain_error = 0.0;
  double hadamard_error = 0.0;  // Equal to plain_error where head_dim is no power of two.
  bool is_smoothed = false;     // Of the layer after SmoothKeys().
  bool use_hadamard() const { return hadamard_error < plain_error; }
  double error() const { return use_hadamard() ? hadamard_error : plain_error; }
};

// Measures both on the tokens of `hidden` [num_tokens, hidden_size] f32, device memory: the layer's
// input, from position 0. Values are held in fp32, so that the keys' error shows alone.
// Errors: those of the back end.
Result<KeyHadamardChoice> ChooseKeyHadamard(Backend& backend, const ModelConfig& config,
                                            const FloatLayer& layer, ConstTensorView hidden,
                                            int k_bits);

}  // namespace comet
