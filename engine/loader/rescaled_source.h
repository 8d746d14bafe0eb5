#pragma once

#include <cstdint>
#include <memory>

#include "engine/loader/float_source.h"

namespace comet {

// The same function as `source`, in fp32 up to rounding, with other weights: random factors between
// 0.7 and 1.4, folded into neighbours, scale
//   both norms' outputs, a channel each    undone in the columns of qkv and gate_up
//   up's outputs                           undone in the columns of down
//   v's outputs, the same for every        undone in the columns of o
//     query head of a KV head
// Factors depend on the seed and the layer alone. For measuring a quantiser on a source that was
// itself quantised: off the source's grid it finds no codes to recover.
std::unique_ptr<FloatSource> MakeRescaledSource(std::unique_ptr<FloatSource> source, uint64_t seed);

}  // namespace comet
