#pragma once

#include <cstdint>

namespace comet::cuda {

// A place in a ring of stages that barriers guard, kStages or fewer; the phase flips each time
// round.
template <int kStages>
struct RingCursor {
  int stage_idx = 0;
  uint32_t phase = 0;

  __device__ __forceinline__ void Advance(int num_stages = kStages) {
    if (++stage_idx == num_stages) {
      stage_idx = 0;
      phase ^= 1;
    }
  }
};

}  // namespace comet::cuda
