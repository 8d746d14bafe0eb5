#include "engine/quantizer/value_bits.h"

#include <memory>
#include <vector>

#include "engine/model/pack_floats.h"
#include "engine/quantizer/attention_probe.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/relative_error.h"

namespace comet {

Result<ValueBitsChoice> ChooseValueBits(Backend& backend, const ModelConfig& config,
                                        const FloatLayer& layer, ConstTensorView hidden, int v_bits,
                                        double error_max) {
  COMET_ASSIGN_OR_RETURN(AttentionProbe probe,
                         AttentionProbe::Create(backend, config, layer, hidden));
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<PackedLinear> o,
                         PackFloats(*backend.ops, layer.o, config.hidden_size, config.q_size()));
  const auto run = [&](const KvFormat& format) -> Result<HostRows> {
    COMET_ASSIGN_OR_RETURN(const std::vector<float> output, probe.Run(format, false));
    return MultiplyByTransposed(backend, output, *o);
  };
  COMET_ASSIGN_OR_RETURN(const HostRows expected, run(AttentionProbe::kExact));
  ValueBitsChoice choice{.v_bits = v_bits};
  while (true) {
    COMET_ASSIGN_OR_RETURN(const HostRows coded,
                           run({.k_bits = AttentionProbe::kExact.k_bits, .v_bits = choice.v_bits}));
    choice.error = RelativeError(coded, expected);
    if (choice.error <= error_max || choice.v_bits >= 16) return choice;
    choice.v_bits *= 2;
  }
}

}  // namespace comet
