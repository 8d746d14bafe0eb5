#include "engine/quantizer/key_bits.h"

#include <algorithm>

namespace comet {

Result<KeyBitsChoice> ChooseKeyBits(Backend& backend, const ModelConfig& config,
                                    const FloatLayer& layer, ConstTensorView hidden, int k_bits,
                                    double error_max) {
  KeyBitsChoice choice{.k_bits = k_bits};
  while (true) {
    COMET_ASSIGN_OR_RETURN(choice.hadamard,
                           ChooseKeyHadamard(backend, config, layer, hidden, choice.k_bits));
    const double error = std::min(choice.hadamard.plain_error, choice.hadamard.hadamard_error);
    if (error <= error_max || choice.k_bits >= 16) return choice;
    choice.k_bits *= 2;
  }
}

}  // namespace comet
