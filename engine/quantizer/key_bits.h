#pragma once

#include "engine/loader/float_source.h"
#include "engine/model/model_config.h"
#include "engine/quantizer/key_hadamard.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/make_backend.h"

namespace comet {

// How one layer's keys are held.
struct KeyBitsChoice {
  int k_bits = 4;
  KeyHadamardChoice hadamard;  // Errors at these bits.
};

// The fewest bits, from `k_bits` up, with which the error of the layer's attention output stays
// within `error_max`, with the better of plain and rotated keys; 16 when no fewer do. A key's range
// is that of its bias where that is huge (norms of 600 and more in the first and last layers of
// published models), and what 4 bits leave of the key itself is nothing. `hidden` as for
// ChooseKeyHadamard(). Errors: those of the back end.
Result<KeyBitsChoice> ChooseKeyBits(Backend& backend, const ModelConfig& config,
                                    const FloatLayer& layer, ConstTensorView hidden, int k_bits,
                                    double error_max);

}  // namespace comet
