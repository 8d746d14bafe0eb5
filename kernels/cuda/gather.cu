// Mapping  One CTA per row, eight neighbouring channels a thread at a time; where channels are
//          gathered, the row goes through shared memory first (device/row_output.cuh).
// Traffic  num_tokens * K * (bytes of x + 1), and 4 K of gather, which stay in L2.
// Limits   As rms_norm.cu.

#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/device/row_output.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_launch.h"
#include "kernels/cuda/row_ops.h"

namespace comet::cuda {
namespace {

struct GatherParams {
  RowOutputParams out;
  const void* x;
  int64_t x_row_stride;
  const int32_t* gather;
};

template <typename T, int kThreads, bool kVectors>
__global__ void __launch_bounds__(kThreads)
    GatherKernel(const __grid_constant__ GatherParams params) {
  extern __shared__ float4 smem[];
  __shared__ RowOutputSmem smem_output;
  const int size = params.out.num_channels;
  const bool has_gather = params.gather != nullptr;
  float* const smem_row = reinterpret_cast<float*>(smem);
  float* const smem_x = smem_row + AlignUp(size, kChunk);
  const int64_t row_idx = blockIdx.x;
  const T* const x_row = static_cast<const T*>(params.x) + row_idx * params.x_row_stride;

  ReleaseNextGrids();
  WaitForPreviousGrids();
  RowMaxima maxima;
#pragma unroll 2
  for (int k = kChunk * static_cast<int>(threadIdx.x); k < size; k += kChunk * kThreads) {
    float x[kChunk];
    LoadFloats<kVectors>(x, x_row, k, size);
    if (has_gather) {
      StoreFloats<true>(x, smem_x + k, 0, kChunk);
    } else {
      maxima.Add(x, k < params.out.num_int4);
      StoreChunk(x, smem_row, k);
    }
  }
  if (has_gather) __syncthreads();
  WriteGathered<kVectors, kThreads>(params.out, params.gather, smem_x, smem_row, maxima, row_idx,
                                    smem_output);
}

// The same for rows of up to kChunks * kHeldThreads * 8 gathered channels, from row to row with the
// order in registers; see HeldRmsNormKernel.
template <typename T, int kChunks>
__global__ void __launch_bounds__(kHeldThreads, HeldCtasPerSm(kChunks))
    HeldGatherKernel(const __grid_constant__ GatherParams params, int num_rows) {
  extern __shared__ float4 smem[];
  __shared__ RowOutputSmem smem_output;
  const int size = params.out.num_channels;
  float* const smem_x = reinterpret_cast<float*>(smem);

  ReleaseNextGrids();
  const HeldGather<kHeldThreads, kChunks> gather(params.gather, size);
  Vec<T, kChunk> loaded[kChunks];
  const auto channel_of = [](int chunk) {
    return kChunk * (static_cast<int>(threadIdx.x) + chunk * kHeldThreads);
  };
  const auto load_row = [&](int64_t row_idx) {
    const T* const x_row = static_cast<const T*>(params.x) + row_idx * params.x_row_stride;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) loaded[c] = LoadVec<kChunk>(x_row, channel_of(c), size);
  };

  WaitForPreviousGrids();
  load_row(blockIdx.x);
  for (int64_t row_idx = blockIdx.x; row_idx < num_rows; row_idx += gridDim.x) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      float x[kChunk];
      ToFloats(x, loaded[c]);
      StoreFloats<true>(x, smem_x, channel_of(c), size);
    }
    if (row_idx + gridDim.x < num_rows) load_row(row_idx + gridDim.x);
    __syncthreads();
    gather.Write(params.out, smem_x, row_idx, smem_output);
  }
}

template <typename T>
Status LaunchGather(const GatherArgs& args, cudaStream_t stream) {
  GatherParams params{.out = MakeRowOutputParams(args.out),
                      .x = args.x.data(),
                      .x_row_stride = args.x.stride(0),
                      .gather = nullptr};
  if (args.gather.is_present()) params.gather = args.gather.as<int32_t>();
  const int num_channels = params.out.num_channels;
  const bool has_vectors =
      num_channels % kChunk == 0 && HasAlignedRows(args.x, 16) && IsAligned(params.gather, 16);
  const int num_rows = args.x.dim(0);
  COMET_ASSIGN_OR_RETURN(const DeviceLimits limits, QueryDeviceLimits());
  if (has_vectors && params.gather != nullptr &&
      TakesHeld(num_rows, num_channels, limits.num_sms)) {
    const LaunchShape held{.grid = dim3(HeldGridSize(num_rows, num_channels, limits.num_sms)),
                           .num_threads = kHeldThreads,
                           .smem_bytes = RowSmemBytes(num_channels, /*has_gather=*/false)};
    return Launch("gather", limits, held, stream,
                  num_channels <= kHeldChannels ? HeldGatherKernel<T, 1> : HeldGatherKernel<T, 2>,
                  params, num_rows);
  }
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(num_rows)),
                          .num_threads = RowThreads(num_rows, limits.num_sms),
                          .smem_bytes = RowSmemBytes(num_channels, args.gather.is_present())};
  const auto launch = [&]<int kThreads>() {
    return Launch("gather", limits, shape, stream,
                  has_vectors ? GatherKernel<T, kThreads, true> : GatherKernel<T, kThreads, false>,
                  params);
  };
  return shape.num_threads == 512 ? launch.template operator()<512>()
                                  : launch.template operator()<256>();
}

}  // namespace

Status Gather(const GatherArgs& args, cudaStream_t stream) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.x.dim(0) == 0 || args.x.dim(1) == 0) return Status::Ok();
  return args.x.dtype() == DType::kF16 ? LaunchGather<__half>(args, stream)
                                       : LaunchGather<float>(args, stream);
}

}  // namespace comet::cuda
