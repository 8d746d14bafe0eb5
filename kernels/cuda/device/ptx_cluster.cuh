#pragma once

#include <cstdint>

#include "kernels/cuda/device/ptx_address.cuh"

// Clusters of CTAs and the registers of a warpgroup. Need sm_90; setmaxnreg needs sm_90a. PTX ISA:
// "barrier.cluster", "mapa", "setmaxnreg".
namespace comet::ptx {

// Which CTA of its cluster this one is. PTX ISA: "%cluster_ctarank".
__device__ __forceinline__ int ClusterRank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

// Two halves of a barrier of all threads of the cluster.
__device__ __forceinline__ void ArriveAtCluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void WaitForCluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// The address in the cluster's window of what lies at `pointer` in the CTA of that rank.
__device__ __forceinline__ uint32_t ClusterAddress(const void* pointer, int rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;"
      : "=r"(address)
      : "r"(SharedAddress(pointer)), "r"(rank));
  return address;
}

// 16 bytes into the shared memory of a CTA of the cluster.
__device__ __forceinline__ void StoreInCluster(uint32_t cluster_address, int4 value) {
  asm volatile("st.shared::cluster.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(cluster_address),
               "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w)
               : "memory");
}

// Registers of each thread of this warpgroup; all its warps call it. Multiples of 8.
template <int kRegisters>
__device__ __forceinline__ void DecreaseRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void IncreaseRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace comet::ptx
