#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/device/ptx_address.cuh"

// The copy engine. Every copy counts its bytes at a barrier, by one thread. Need sm_90. PTX ISA:
// "cp.async.bulk", "cp.async.bulk.tensor", "createpolicy".
namespace comet::ptx {

// L2 policies, as createpolicy.fractional makes them for the whole access.
inline constexpr uint64_t kEvictFirst = 0x12F0000000000000;
inline constexpr uint64_t kEvictNormal = 0x1000000000000000;

// Contiguous bytes; addresses and num_bytes are multiples of 16.
__device__ __forceinline__ void CopyBytes(void* smem, const void* gmem, int num_bytes,
                                          uint64_t* barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(SharedAddress(smem)),
      "l"(__cvta_generic_to_global(gmem)), "r"(num_bytes), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}

// Asks for contiguous bytes to be brought to L2; address and num_bytes are multiples of 16. PTX
// ISA: "cp.async.bulk.prefetch".
__device__ __forceinline__ void PrefetchBytes(const void* gmem, int num_bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(gmem)),
               "r"(num_bytes)
               : "memory");
}

// The box of a two-dimensional tensor map at (column, row). Places outside the tensor are zeroed
// and counted.
__device__ __forceinline__ void CopyBox(void* smem, const CUtensorMap* map, int column, int row,
                                        uint64_t* barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5;" ::"r"(SharedAddress(smem)),
      "l"(map), "r"(column), "r"(row), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}

// A box from shared memory to the tensor, where it lies inside it. By the thread that commits and
// waits; FenceForAsyncReaders() and a barrier come between ordinary stores to the box and this.
__device__ __forceinline__ void StoreBox(const CUtensorMap* map, int column, int row,
                                         const void* smem) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map),
      "r"(column), "r"(row), "r"(SharedAddress(smem))
      : "memory");
}

__device__ __forceinline__ void CommitStores() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// Waits until what this thread committed has left shared memory.
__device__ __forceinline__ void WaitStoresRead() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
// Waits until what this thread committed is written.
__device__ __forceinline__ void WaitStores() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

__device__ __forceinline__ void PrefetchTensorMap(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

}  // namespace comet::ptx
