#pragma once

#include <cstdint>

#include "kernels/cuda/work_splitter.h"

namespace comet::sm80 {

// A number that tells splits of as many whole tiles and CTAs apart (FNV-1a of their cuts).
inline uint32_t CutsId(const WorkSplit& split) {
  uint32_t id = 2166136261u;
  for (int cta = 0; cta <= split.num_ctas; ++cta) {
    for (const uint16_t place : {split.boundary[cta].tile, split.boundary[cta].block}) {
      id = (id ^ place) * 16777619u;
    }
  }
  return id;
}

}  // namespace comet::sm80
