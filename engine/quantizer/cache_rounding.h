#pragma once

#include <span>

namespace comet {

// What reading a row of head_dim values back from the KV cache gives: see KvFormat. 16 and 32 bits
// leave the row as it is, fp16 being finer than what this serves needs.
void RoundThroughCache(std::span<float> row, int bits);

// The orthonormal Sylvester Hadamard of a row, its own inverse; a power of two of values.
void HadamardRow(std::span<float> row);

}  // namespace comet
