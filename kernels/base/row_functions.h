#pragma once

#include <span>

namespace comet {

// Functions of whole rows in the registers that this processor has (wide_vectors.h), sums and
// maxima in sixteen lanes, added or compared in the order of the lanes. The same bits everywhere.

float MaxOf(std::span<const float> row);  // Of one value at least.
float DotOf(std::span<const float> a, std::span<const float> b);

// Replaces each value by Exp(scale * (value - shift)) and returns their sum.
float ExpOfRow(float scale, float shift, std::span<float> row);

// sum of Exp(value - shift); the row stays.
float SumOfExp(float shift, std::span<const float> row);

}  // namespace comet
