// Mapping  One CTA per row, eight neighbouring channels a thread at a time. Products wait in shared
//          memory for the row's scale; of f16 rows in vectors that become codes, in the place of
//          their gates and ups, whose copies all start at once.
// Traffic  num_tokens * ffn_size * (2 * bytes of gate_up + 1). The contract's exponential and
//          division without contraction are about 40 instructions a channel, so arithmetic is
//          nearly as long; a Hadamard adds about 12.
// Limits   As rms_norm.cu.

#include <cmath>

#include "kernels/cuda/device/hadamard.cuh"
#include "kernels/cuda/device/ptx_async_copy.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/device/row_output.cuh"
#include "kernels/cuda/device/silu.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_launch.h"
#include "kernels/cuda/row_ops.h"
#include "kernels/cuda/silu_mul_params.h"

namespace comet::cuda {
namespace {

template <typename T, int kThreads, bool kVectors>
__global__ void __launch_bounds__(kThreads)
    SiluMulKernel(const __grid_constant__ SiluMulParams params) {
  extern __shared__ float4 smem[];
  __shared__ RowOutputSmem smem_output;
  const int size = params.out.num_channels;
  float* const smem_row = reinterpret_cast<float*>(smem);
  const int64_t row_idx = blockIdx.x;
  const T* const gate_row =
      static_cast<const T*>(params.gate_up) + row_idx * params.gate_up_row_stride;
  const T* const up_row = gate_row + size;

  ReleaseNextGrids();
  WaitForPreviousGrids();
  RowMaxima maxima;
#pragma unroll 2
  for (int k = kChunk * static_cast<int>(threadIdx.x); k < size; k += kChunk * kThreads) {
    float gate[kChunk];
    float up[kChunk];
    LoadFloats<kVectors>(gate, gate_row, k, size);
    LoadFloats<kVectors>(up, up_row, k, size);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) gate[i] = SiluMulOf(gate[i], up[i]);
    if (k < params.num_hadamard) HadamardBlock(gate, params.hadamard_factor);
    maxima.Add(gate, k < params.out.num_int4);
    StoreChunk(gate, smem_row, k);
  }
  WriteGathered<kVectors, kThreads>(params.out, /*gather=*/nullptr, smem_row, smem_row, maxima,
                                    row_idx, smem_output);
}

constexpr int kF16Threads = 512;
constexpr int kF16CtasPerSm = 3;  // While one waits for its copies, another computes.

// Waits for the copies of a thread's chunk of this index, of which the fourth and all later ones
// are one group.
constexpr int kCopyGroups = 4;
__device__ __forceinline__ void WaitForChunk(int index) {
  switch (index) {
    case 0: ptx::WaitAsyncCopies<kCopyGroups - 1>(); break;
    case 1: ptx::WaitAsyncCopies<kCopyGroups - 2>(); break;
    case 2: ptx::WaitAsyncCopies<kCopyGroups - 3>(); break;
    default: ptx::WaitAsyncCopies<0>(); break;
  }
}

__global__ void __launch_bounds__(kF16Threads, kF16CtasPerSm)
    SiluMulF16Kernel(const __grid_constant__ SiluMulParams params) {
  extern __shared__ float4 smem[];
  __shared__ RowOutputSmem smem_output;
  const int size = params.out.num_channels;
  const int num_chunks = size / kChunk;
  const int thread_idx = static_cast<int>(threadIdx.x);
  float4* const smem_gate = smem;             // A chunk of f16 each, then its first four products;
  float4* const smem_up = smem + num_chunks;  // of up, the last four.
  const int64_t row_idx = blockIdx.x;
  const __half* const gate_row =
      static_cast<const __half*>(params.gate_up) + row_idx * params.gate_up_row_stride;

  ReleaseNextGrids();
  WaitForPreviousGrids();
  int num_groups = 0;
#pragma unroll 1
  for (int c = thread_idx; c < num_chunks; c += kF16Threads) {
    ptx::StartAsyncCopy16(&smem_gate[c], gate_row + kChunk * c);
    ptx::StartAsyncCopy16(&smem_up[c], gate_row + size + kChunk * c);
    if (num_groups == kCopyGroups - 1) continue;
    ptx::CommitAsyncCopies();
    ++num_groups;
  }
  for (; num_groups < kCopyGroups; ++num_groups) ptx::CommitAsyncCopies();

  // A thread reads what it copied itself.
  RowMaxima maxima;
  int index = 0;
#pragma unroll 1
  for (int c = thread_idx; c < num_chunks; c += kF16Threads) {
    WaitForChunk(index++);
    float x[kChunk];
    SiluMulOfF16(x, reinterpret_cast<const PackedVec<__half, kChunk>&>(smem_gate[c]),
                 reinterpret_cast<const PackedVec<__half, kChunk>&>(smem_up[c]));
    if (kChunk * c < params.num_hadamard) HadamardBlock(x, params.hadamard_factor);
    maxima.Add(x, kChunk * c < params.out.num_int4);
    smem_gate[c] = make_float4(x[0], x[1], x[2], x[3]);
    smem_up[c] = make_float4(x[4], x[5], x[6], x[7]);
  }

  RowCodes codes(params.out, ReduceMaxima<kF16Threads>(maxima, smem_output), row_idx);
#pragma unroll 2
  for (int c = thread_idx; c < num_chunks; c += kF16Threads) {
    const float4 low = smem_gate[c];
    const float4 high = smem_up[c];
    codes.Write</*kVectors=*/true>({low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w},
                                   kChunk * c);
  }
  codes.Finish<kF16Threads>(smem_output);
}

template <typename T>
Status LaunchSiluMul(const SiluMulArgs& args, Launcher& launcher) {
  const SiluMulParams params{
      .out = MakeRowOutputParams(args.out),
      .gate_up = args.gate_up.data(),
      .gate_up_row_stride = args.gate_up.stride(0),
      .num_hadamard = args.num_hadamard_channels,
      .hadamard_factor = 1.0f / std::sqrt(static_cast<float>(kBlockChannels))};
  const int num_channels = params.out.num_channels;
  const bool has_vectors = num_channels % kChunk == 0 && HasAlignedRows(args.gate_up, 16);
  const int num_rows = args.gate_up.dim(0);
  const DeviceLimits& limits = launcher.limits();
  if (limits.compute_major == 9 && has_vectors && sm90::TakesCluster(num_rows, num_channels)) {
    return sm90::ClusterSiluMul(params, num_rows, args.gate_up.dtype(), launcher);
  }
  if (args.gate_up.dtype() == DType::kF16 && has_vectors && params.out.codes != nullptr &&
      params.out.has_vector_stores) {
    const int64_t smem_bytes = RowSmemBytes(num_channels, /*has_gather=*/false);
    const LaunchShape shape{.grid = dim3(static_cast<unsigned>(num_rows)),
                            .num_threads = kF16Threads,
                            .smem_bytes = SpreadSmemBytes(num_rows, smem_bytes, limits)};
    return launcher.Launch("silu_mul", shape, SiluMulF16Kernel, params);
  }
  // Wide rows take so much shared memory that few CTAs share an SM: they need the threads of both.
  constexpr int kWideRow = 8192;
  const int num_threads = num_channels > kWideRow ? 512 : RowThreads(num_rows, limits.num_sms);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(num_rows)),
                          .num_threads = num_threads,
                          .smem_bytes = RowSmemBytes(num_channels, /*has_gather=*/false)};
  const auto launch = [&]<int kThreads>() {
    return launcher.Launch(
        "silu_mul", shape,
        has_vectors ? SiluMulKernel<T, kThreads, true> : SiluMulKernel<T, kThreads, false>, params);
  };
  return shape.num_threads == 512 ? launch.template operator()<512>()
                                  : launch.template operator()<256>();
}

}  // namespace

Status SiluMul(const SiluMulArgs& args, Launcher& launcher) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.gate_up.dim(0) == 0 || args.out.num_channels() == 0) return Status::Ok();
  return args.gate_up.dtype() == DType::kF16 ? LaunchSiluMul<__half>(args, launcher)
                                             : LaunchSiluMul<float>(args, launcher);
}

}  // namespace comet::cuda
