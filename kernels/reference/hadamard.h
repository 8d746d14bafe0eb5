#pragma once

#include <span>

namespace comet::reference {

// H x / sqrt(n) in place, Sylvester order, n a power of two: passes of (a + b, a - b) with stride
// 1, 2, 4 ..., then one multiplication.
void Hadamard(std::span<float> x);

}  // namespace comet::reference
