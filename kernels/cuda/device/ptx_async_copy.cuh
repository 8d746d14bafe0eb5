#pragma once

#include "kernels/cuda/device/ptx_address.cuh"

namespace comet::ptx {

// Starts copying 16 bytes from global to shared memory past L1: the first `num_bytes` (0 to 16) are
// read, the others written as zeros. Both addresses are 16-byte aligned. Readable after
// CommitAsyncCopies(), WaitAsyncCopies<N>() and a barrier. Needs sm_80. PTX ISA: "cp.async".
__device__ __forceinline__ void StartAsyncCopy16(uint32_t smem_address, const void* gmem,
                                                 int num_bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(smem_address),
               "l"(__cvta_generic_to_global(gmem)), "r"(num_bytes)
               : "memory");
}
__device__ __forceinline__ void StartAsyncCopy16(void* smem, const void* gmem, int num_bytes) {
  StartAsyncCopy16(SharedAddress(smem), gmem, num_bytes);
}

// The same of all 16 bytes.
__device__ __forceinline__ void StartAsyncCopy16(void* smem, const void* gmem) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(SharedAddress(smem)),
               "l"(__cvta_generic_to_global(gmem))
               : "memory");
}

// The same to a shared address, where bit `bit` of `wanted`, a constant, is set; without a branch.
// Bits 1 to 6 become predicates together, in one instruction.
__device__ __forceinline__ void StartAsyncCopy16If(uint32_t wanted, int bit, uint32_t smem_address,
                                                   const void* gmem) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      ".reg .b32 flag;\n"
      "and.b32 flag, %2, %3;\n"
      "setp.ne.b32 p, flag, 0;\n"
      "@p cp.async.cg.shared.global [%0], [%1], 16;\n"
      "}\n" ::"r"(smem_address),
      "l"(__cvta_generic_to_global(gmem)), "r"(wanted), "r"(1 << bit)
      : "memory");
}

// The same of 8 bytes at addresses of 8-byte alignment.
__device__ __forceinline__ void StartAsyncCopy8(void* smem, const void* gmem, int num_bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;\n" ::"r"(SharedAddress(smem)),
               "l"(__cvta_generic_to_global(gmem)), "r"(num_bytes)
               : "memory");
}

// Closes a group of the thread's copies. Needs sm_80. PTX ISA: "cp.async.commit_group".
__device__ __forceinline__ void CommitAsyncCopies() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

// Waits until at most kNumPending of the thread's latest groups are under way. Needs sm_80. PTX
// ISA: "cp.async.wait_group".
template <int kNumPending>
__device__ __forceinline__ void WaitAsyncCopies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kNumPending) : "memory");
}

}  // namespace comet::ptx
