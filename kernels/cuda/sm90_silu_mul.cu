// Mapping  A cluster of kCtas CTAs per row; each thread keeps kChunks chunks of eight channels in
//          registers. The CTAs tell each other their maxima, and the first their code sums.
// Traffic  As silu_mul.cu. With few rows an SM's arithmetic bounds it (5,600 clocks for a row of
//          14336), so a row is shared among SMs.
// Limits   Aligned rows of up to 32768 channels; sm_90.

#include "kernels/cuda/device/hadamard.cuh"
#include "kernels/cuda/device/ptx_cluster.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/device/row_output.cuh"
#include "kernels/cuda/device/silu.cuh"
#include "kernels/cuda/silu_mul_params.h"

namespace comet::cuda::sm90 {
namespace {

constexpr int kClusterCtasMax = 8;
constexpr int kClusterChannels = 16384;  // Of one chunk of each thread: 8 x 256 or 4 x 512 threads.
constexpr int kRowsOfEight = 16;         // Eight CTAs a row while all rows' fit the SMs,
constexpr int kRowsOfFour = 64;          // four while that leaves less for each SM than whole rows.

template <typename T, int kCtas, int kThreads, int kChunks>
__global__ void __launch_bounds__(kThreads)
    ClusterSiluMulKernel(const __grid_constant__ SiluMulParams params) {
  __shared__ RowOutputSmem smem_output;
  __shared__ int4 smem_maxima[kClusterCtasMax];  // INT4 region, INT8 region of each CTA.
  __shared__ int4 smem_sums[kClusterCtasMax];    // INT8 region, INT4 region.
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
  float up[kChunks][kChunk];
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    LoadFloats<true>(x[c], gate_row, channel_of(c), size);
    LoadFloats<true>(up[c], gate_row + size, channel_of(c), size);
  }
  RowMaxima maxima;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) x[c][i] = SiluMulOf(x[c][i], up[c][i]);
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
    if (channel_of(c) < size) codes.Write(x[c], channel_of(c));
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

template <typename T, int kCtas, int kThreads>
Status LaunchCluster(const SiluMulParams& params, int num_rows, const DeviceLimits& limits,
                     cudaStream_t stream) {
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(num_rows * kCtas)),
                          .num_threads = kThreads,
                          .cluster_ctas = kCtas};
  return Launch("silu_mul", limits, shape, stream,
                params.out.num_channels <= kClusterChannels
                    ? ClusterSiluMulKernel<T, kCtas, kThreads, 1>
                    : ClusterSiluMulKernel<T, kCtas, kThreads, 2>,
                params);
}

template <typename T>
Status LaunchCluster(const SiluMulParams& params, int num_rows, const DeviceLimits& limits,
                     cudaStream_t stream) {
  return num_rows <= kRowsOfEight ? LaunchCluster<T, 8, 256>(params, num_rows, limits, stream)
                                  : LaunchCluster<T, 4, 512>(params, num_rows, limits, stream);
}

}  // namespace

bool TakesCluster(int num_rows, int num_channels) {
  constexpr int kChannelsMin = 4096;  // Below, the exchange costs what it saves.
  return num_rows <= kRowsOfFour && num_channels >= kChannelsMin &&
         num_channels <= 2 * kClusterChannels;
}

Status ClusterSiluMul(const SiluMulParams& params, int num_rows, DType dtype,
                      const DeviceLimits& limits, cudaStream_t stream) {
  return dtype == DType::kF16 ? LaunchCluster<__half>(params, num_rows, limits, stream)
                              : LaunchCluster<float>(params, num_rows, limits, stream);
}

}  // namespace comet::cuda::sm90
