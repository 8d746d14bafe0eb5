#pragma once

#include <array>

namespace comet {

// What a layer holds of its four linears, in the order of LinearKind: of a FloatLayer, a
// QuantizedLayer, a LayerAccuracy or LayerInt4Channels.
template <typename Layer>
auto LinearsOf(Layer& layer) {
  return std::array{&layer.qkv, &layer.o, &layer.gate_up, &layer.down};
}

}  // namespace comet
