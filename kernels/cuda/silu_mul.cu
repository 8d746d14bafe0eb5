// Mapping  One CTA per row, eight neighbouring channels a thread at a time. Products wait in shared
//          memory for the row's scale.
// Traffic  num_tokens * ffn_size * (2 * bytes of gate_up + 1). The contract's exponential and
//          division without contraction are about 45 instructions a channel, so arithmetic is as
//          long; a Hadamard adds about 12.
// Limits   As rms_norm.cu.

#include <cmath>

#include "kernels/cuda/device/hadamard.cuh"
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

template <typename T>
Status LaunchSiluMul(const SiluMulArgs& args, cudaStream_t stream) {
  const SiluMulParams params{
      .out = MakeRowOutputParams(args.out),
      .gate_up = args.gate_up.data(),
      .gate_up_row_stride = args.gate_up.stride(0),
      .num_hadamard = args.num_hadamard_channels,
      .hadamard_factor = 1.0f / std::sqrt(static_cast<float>(kBlockChannels))};
  const int num_channels = params.out.num_channels;
  const bool has_vectors = num_channels % kChunk == 0 && HasAlignedRows(args.gate_up, 16);
  const int num_rows = args.gate_up.dim(0);
  COMET_ASSIGN_OR_RETURN(const DeviceLimits limits, QueryDeviceLimits());
  if (limits.compute_major == 9 && has_vectors && sm90::TakesCluster(num_rows, num_channels)) {
    return sm90::ClusterSiluMul(params, num_rows, args.gate_up.dtype(), limits, stream);
  }
  // Wide rows take so much shared memory that few CTAs share an SM: they need the threads of both.
  constexpr int kWideRow = 8192;
  const int num_threads = num_channels > kWideRow ? 512 : RowThreads(num_rows, limits.num_sms);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(num_rows)),
                          .num_threads = num_threads,
                          .smem_bytes = RowSmemBytes(num_channels, /*has_gather=*/false)};
  const auto launch = [&]<int kThreads>() {
    return Launch(
        "silu_mul", limits, shape, stream,
        has_vectors ? SiluMulKernel<T, kThreads, true> : SiluMulKernel<T, kThreads, false>, params);
  };
  return shape.num_threads == 512 ? launch.template operator()<512>()
                                  : launch.template operator()<256>();
}

}  // namespace

Status SiluMul(const SiluMulArgs& args, cudaStream_t stream) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.gate_up.dim(0) == 0 || args.out.num_channels() == 0) return Status::Ok();
  return args.gate_up.dtype() == DType::kF16 ? LaunchSiluMul<__half>(args, stream)
                                             : LaunchSiluMul<float>(args, stream);
}

}  // namespace comet::cuda
