#pragma once

#include <cstdint>

namespace comet::ptx {

// A pointer into this CTA's shared memory as the 32-bit address that PTX instructions take.
__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

}  // namespace comet::ptx
