#pragma once

#include <cstdint>

// Special registers that tell when and where a thread runs. PTX ISA: "Special Registers".
namespace comet::ptx {

// The multiprocessor's index.
__device__ __forceinline__ uint32_t SmIdx() {
  uint32_t idx;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(idx));
  return idx;
}

// The multiprocessor's clocks so far.
__device__ __forceinline__ uint64_t Clocks() {
  uint64_t clocks;
  asm volatile("mov.u64 %0, %%clock64;" : "=l"(clocks));
  return clocks;
}

// The card's time.
__device__ __forceinline__ uint64_t Nanoseconds() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

}  // namespace comet::ptx
