#pragma once

namespace comet::ptx {

// Makes `x` an unknown value to the compiler: what follows from it is worked out anew from here on,
// where it would else be kept in registers.
__device__ __forceinline__ void Forget(int& x) { asm volatile("" : "+r"(x)); }

}  // namespace comet::ptx
