#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace comet {

// Rows of [N, K] as INT8 with one scale each (see Int8Weights): scale[n] = max |w[n]| / 127.
struct Int8Rows {
  std::vector<int8_t> codes;
  std::vector<float> scale;
  double relative_error = 0.0;  // Root of the squared difference over the squared original.
};

Int8Rows QuantizeInt8Rows(std::span<const float> weights, int num_channels, int num_threads);

}  // namespace comet
