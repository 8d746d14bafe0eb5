#include "engine/quantizer/key_hadamard.h"

#include <vector>

#include "engine/quantizer/attention_probe.h"
#include "engine/quantizer/relative_error.h"
#include "kernels/base/math.h"

namespace comet {

Result<KeyHadamardChoice> ChooseKeyHadamard(Backend& backend, const ModelConfig& config,
                                            const FloatLayer& layer, ConstTensorView hidden,
                                            int k_bits) {
  COMET_ASSIGN_OR_RETURN(AttentionProbe probe,
                         AttentionProbe::Create(backend, config, layer, hidden));
  const KvFormat coded{.k_bits = k_bits, .v_bits = 32};
  COMET_ASSIGN_OR_RETURN(const std::vector<float> expected,
                         probe.Run(AttentionProbe::kExact, false));
  COMET_ASSIGN_OR_RETURN(const std::vector<float> plain, probe.Run(coded, false));
  KeyHadamardChoice choice;
  choice.plain_error = RelativeError(plain, expected);
  choice.hadamard_error = choice.plain_error;
  if (!IsPowerOfTwo(config.head_dim)) return choice;
  COMET_ASSIGN_OR_RETURN(const std::vector<float> rotated, probe.Run(coded, true));
  choice.hadamard_error = RelativeError(rotated, expected);
  return choice;
}

}  // namespace comet
