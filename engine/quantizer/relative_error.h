#pragma once

#include <span>

namespace comet {

// |values - original| / |original| in the Euclidean norm; 0 where the original is 0.
double RelativeError(std::span<const float> values, std::span<const float> original);

}  // namespace comet
