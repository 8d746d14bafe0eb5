#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// Counters in global memory by which the CTAs of a grid pass on what they wrote. Before an
// AddAcquireRelease() a barrier brings the other threads' writes with it; what CTAs wrote before
// they added is visible after a LoadAcquire() or AddAcquireRelease() that sees the addition, to the
// other threads of the CTA after a barrier. Needs sm_70.
namespace comet::ptx {

// PTX ISA: "ld".
__device__ __forceinline__ int32_t LoadAcquire(const int32_t* counter) {
  int32_t value;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
               : "=r"(value)
               : "l"(__cvta_generic_to_global(counter))
               : "memory");
  return value;
}

// 16 bytes that other CTAs wrote. Stays where it is written: loads that follow one another are
// under way together. PTX ISA: "ld".
__device__ __forceinline__ int4 LoadFromL2(const int4* vector) {
  int4 value;
  asm volatile("ld.global.cg.v4.s32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(__cvta_generic_to_global(vector))
               : "memory");
  return value;
}

// Returns the value before. PTX ISA: "atom".
__device__ __forceinline__ int32_t AddAcquireRelease(int32_t* counter, int32_t addend) {
  int32_t before;
  asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(__cvta_generic_to_global(counter)), "r"(addend)
               : "memory");
  return before;
}

}  // namespace comet::ptx
