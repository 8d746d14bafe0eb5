// Mapping  A cluster of kCtas CTAs per row; each thread keeps kChunks chunks of eight channels in
//          registers. The CTAs tell each other their maxima, and the first their code sums.
// Traffic  As silu_mul.cu. With few rows an SM's arithmetic bounds it (5,600 clocks for a row of
//          14336), so a row is shared among SMs.
// Limits   Aligned rows of up to 32768 channels; sm_90.

#include <type_traits>

#include "kernels/cuda/device/hadamard.cuh"
#include "kernels/cuda/device/ptx_cluster.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/device/row_output.cuh"
#include "kernels/cuda/device/silu.cuh"
#include "kernels/cuda/silu_mul_params.h"

namespace comet::cuda::sm90 {
namespace {

constexpr int kCtas = 8;  // Of a cluster.
constexpr int kThreads = 256;
constexpr int kClusterChannels = kCtas * kThreads * kChunk;  // Of one chunk a thread.
constexpr int kRowsMax = 16;  // All rows' clusters run at once; more are faster with a CTA each.

template <typename T>
__device__ __forceinline__ void Multiply(float (&out)[kChunk], const PackedVec<T, kChunk>& gate,
                                         const PackedVec<T, kChunk>& up, bool keeps_zero_signs) {
  if constexpr (std::is_same_v<T, __half>) {
    if (!keeps_zero_signs) return SiluMulOfF16(out, gate, up);
  }
  float ups[kChunk];
  ToFloats(out, gate);
  ToFloats(ups, up);
#pragma unroll
  for (int i = 0; i < kChunk; ++i) out[i] = SiluMulOf(out[i], ups[i]);
}

template <typename T, int kChunks>
__global__ void __launch_bounds__(kThreads)
    ClusterSiluMulKernel(const __grid_constant__ SiluMulParams params) {
  __shared__ RowOutputSmem smem_output;
  __shared__ int4 smem_maxima[kCtas];  // INT4 region, INT8 region of each CTA.
  __shared__ int4 smem_sums[kCtas];    // INT8 region, INT4 region.
  const int size = params.out.num_channels;
  const int64_t row_idx = blockIdx.x / kCtas;
  const int cta_rank = ptx::ClusterRank();
  const auto channel_of = [&](int chunk) {
    return kChunk * (static_cast<int>(threadIdx.x) + kThreads * (cta_rank + kCtas * chunk));
  };
  const T* const gate_row =
      static_cast<const T*>(params.gate_up) + row_idx * params.gate_up_row_stride;

  ptx::ArriveAtCluster();  // Nobody writes to a CTA that has not started.
  ReleaseNextGrids();
  WaitForPreviousGrids();
  float x[kChunks][kChunk];
  PackedVec<T, kChunk> gate[kChunks];
  PackedVec<T, kChunk> up[kChunks];
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    gate[c] = LoadPacked<kChunk>(gate_row, channel_of(c), size);
    up[c] = LoadPacked<kChunk>(gate_row + size, channel_of(c), size);
  }
  RowMaxima maxima;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    Multiply(x[c], gate[c], up[c], params.out.codes == nullptr);
    if (channel_of(c) < params.num_hadamard) HadamardBlock(x[c], params.hadamard_factor);
    maxima.Add(x[c], channel_of(c) < params.out.num_int4);
  }
  if (params.out.codes == nullptr) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (channel_of(c) < size) WriteChunkValues(params.out, x[c], channel_of(c), row_idx);
    }
    ptx::WaitForCluster();
    return;
  }

  maxima = ReduceMaxima<kThreads>(maxima, smem_output);
  ptx::WaitForCluster();
  if (threadIdx.x < kCtas) {
    ptx::StoreInCluster(
        ptx::ClusterAddress(&smem_maxima[cta_rank], static_cast<int>(threadIdx.x)),
        make_int4(static_cast<int>(maxima.int4), static_cast<int>(maxima.int8), 0, 0));
  }
  __syncwarp();
  ptx::ArriveAtCluster();
  ptx::WaitForCluster();
#pragma unroll
  for (int rank = 0; rank < kCtas; ++rank) {
    maxima.int4 = max(maxima.int4, static_cast<uint32_t>(smem_maxima[rank].x));
    maxima.int8 = max(maxima.int8, static_cast<uint32_t>(smem_maxima[rank].y));
  }

  RowCodes codes(params.out, maxima, row_idx);
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if (channel_of(c) < size) codes.Write</*kVectors=*/false>(x[c], channel_of(c));
  }
  const int2 sums = codes.SumOfCta<kThreads>(smem_output);
  if (threadIdx.x == 0) {
    ptx::StoreInCluster(ptx::ClusterAddress(&smem_sums[cta_rank], /*rank=*/0),
                        make_int4(sums.x, sums.y, 0, 0));
  }
  __syncwarp();
  ptx::ArriveAtCluster();
  ptx::WaitForCluster();
  if (cta_rank != 0 || threadIdx.x != 0) return;
  int2 row_sums = {0, 0};
#pragma unroll
  for (int rank = 0; rank < kCtas; ++rank) {
    row_sums.x += smem_sums[rank].x;
    row_sums.y += smem_sums[rank].y;
  }
  codes.WriteScalars(row_sums);
}

template <typename T>
Status LaunchCluster(const SiluMulParams& params, int num_rows, Launcher& launcher) {
  const int num_ctas = num_rows * kCtas;
  // As if there were twice as many: not every cluster finds eight SMs for itself alone.
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(num_ctas)),
                          .num_threads = kThreads,
                          .smem_bytes = SpreadSmemBytes(2 * num_ctas, 0, launcher.limits()),
                          .cluster_ctas = kCtas};
  return launcher.Launch("silu_mul", shape,
                         params.out.num_channels <= kClusterChannels ? ClusterSiluMulKernel<T, 1>
                                                                     : ClusterSiluMulKernel<T, 2>,
                         params);
}

}  // namespace

bool TakesCluster(int num_rows, int num_channels) {
  constexpr int kChannelsMin = 4096;  // Below, the exchange costs what it saves.
  return num_rows <= kRowsMax && num_channels >= kChannelsMin &&
         num_channels <= 2 * kClusterChannels;
}

Status ClusterSiluMul(const SiluMulParams& params, int num_rows, DType dtype, Launcher& launcher) {
  return dtype == DType::kF16 ? LaunchCluster<__half>(params, num_rows, launcher)
                              : LaunchCluster<float>(params, num_rows, launcher);
}

}  // namespace comet::cuda::sm90
