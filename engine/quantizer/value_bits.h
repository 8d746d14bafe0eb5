#pragma once

#include "engine/loader/float_source.h"
#include "engine/model/model_config.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/make_backend.h"

namespace comet {

// How one layer's values are held.
struct ValueBitsChoice {
  int v_bits = 4;
  double error = 0.0;  // At these bits.
};

// The fewest bits, from `v_bits` up, with which the error of what o_proj makes of the layer's
// attention output stays within `error_max`; 16 when no fewer do. Behind o_proj, since a channel of
// V that dwarfs its neighbours sets the step of their codes and makes up most of the attention
// output too: that output's own error hides what the others lose, though o_proj reads all alike.
// The error is the root of the squared difference over the squared result with fp32 values; keys
// are fp32 in both, so that the values' error shows alone. `hidden` as for ChooseKeyHadamard().
// Errors: those of the back end.
Result<ValueBitsChoice> ChooseValueBits(Backend& backend, const ModelConfig& config,
                                        const FloatLayer& layer, ConstTensorView hidden, int v_bits,
                                        double error_max);

}  // namespace comet
