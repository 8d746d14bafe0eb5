#pragma once

#include <cstdint>

#include "kernels/cuda/device/ptx_address.cuh"

// Barriers in shared memory (mbarrier) and among warps. PTX ISA: "mbarrier", "bar". Need sm_90
// unless stated.
namespace comet::ptx {

// Sets the arrivals that complete a phase. By one thread, then FenceBarrierInit() and a barrier.
__device__ __forceinline__ void InitBarrier(uint64_t* barrier, int num_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)),
               "r"(num_arrivals)
               : "memory");
}

// Makes initialised barriers visible to the copy engine and to the cluster.
__device__ __forceinline__ void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void Arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}

// Arrives and adds `num_bytes` that copies must bring before the phase completes.
__device__ __forceinline__ void ArriveAndExpect(uint64_t* barrier, int num_bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
      "r"(num_bytes)
      : "memory");
}

// Arrives at the barrier of another CTA of the cluster, with what this thread wrote there before.
__device__ __forceinline__ void ArriveInCluster(uint32_t cluster_address) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(cluster_address)
               : "memory");
}

// Whether the phase of that parity has completed; may wait a while before it says no.
__device__ __forceinline__ bool TryWait(uint64_t* barrier, uint32_t parity) {
  uint32_t is_complete;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n"
      "}\n"
      : "=r"(is_complete)
      : "r"(SharedAddress(barrier)), "r"(parity)
      : "memory");
  return is_complete != 0;
}

// The same, and what other CTAs of the cluster wrote before their arrivals is visible then.
__device__ __forceinline__ bool TryWaitInCluster(uint64_t* barrier, uint32_t parity) {
  uint32_t is_complete;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n"
      "}\n"
      : "=r"(is_complete)
      : "r"(SharedAddress(barrier)), "r"(parity)
      : "memory");
  return is_complete != 0;
}

__device__ __forceinline__ void Wait(uint64_t* barrier, uint32_t parity) {
  while (!TryWait(barrier, parity)) {
  }
}

__device__ __forceinline__ void WaitInCluster(uint64_t* barrier, uint32_t parity) {
  while (!TryWaitInCluster(barrier, parity)) {
  }
}

// Makes this thread's stores to shared memory visible to the copy engine and to wgmma, before a
// barrier tells them. PTX ISA: "fence.proxy.async".
__device__ __forceinline__ void FenceForAsyncReaders() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Waits until `num_threads` threads, whole warps, have come to barrier `id` (1 to 15). Any sm.
__device__ __forceinline__ void SyncThreads(int id, int num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}

// Counts towards such a barrier without waiting. Any sm.
__device__ __forceinline__ void ArriveAtThreads(int id, int num_threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}

}  // namespace comet::ptx
