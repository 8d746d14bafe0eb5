// Mapping  One CTA per row. For the sum, thread t owns the lanes kLanes * t ... of the contract's
//          1024 and adds the channels of each in turn; the tree runs over a thread's lanes, the
//          lanes of a warp and the warps. Scaling keeps that mapping; gathering and quantising take
//          eight neighbouring channels a thread (device/row_output.cuh).
// Traffic  num_rows * K * (bytes of x + 1) plus 4 K of weights and of gather, which stay in L2.
// Limits   16-byte instructions where every row and vector is aligned to 16 bytes and K is a
//          multiple of 8; otherwise the same kernel moves single elements.

#include "kernels/base/exact_math.h"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/device/row_output.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_launch.h"
#include "kernels/cuda/row_ops.h"

namespace comet::cuda {
namespace {

constexpr int kBatch = 4;  // Loads in flight of a thread: all of a row of 4096.

struct RmsNormParams {
  RowOutputParams out;
  const void* x;
  int64_t x_row_stride;
  const float* weight;
  const int32_t* gather;
  const int32_t* rows;
  float epsilon;
};

// The sum of the lanes, for every thread: adjacent lanes in pairs, ten times.
template <int kThreads, int kLanes>
__device__ __forceinline__ float SumLanes(float (&lanes)[kLanes], float* smem_partial) {
  constexpr int kNumWarps = kThreads / 32;
#pragma unroll
  for (int count = kLanes / 2; count >= 1; count /= 2) {
#pragma unroll
    for (int i = 0; i < count; ++i) lanes[i] = lanes[2 * i] + lanes[2 * i + 1];
  }
  float sum = lanes[0];
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    sum += __shfl_xor_sync(~0u, sum, distance);
  }
  const int lane_idx = threadIdx.x % 32;
  if (lane_idx == 0) smem_partial[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = smem_partial[lane_idx % kNumWarps];
#pragma unroll
  for (int distance = 1; distance < kNumWarps; distance *= 2) {
    sum += __shfl_xor_sync(~0u, sum, distance);
  }
  return sum;
}

template <typename T, int kThreads, bool kVectors>
__global__ void __launch_bounds__(kThreads)
    RmsNormKernel(const __grid_constant__ RmsNormParams params) {
  constexpr int kLanes = kSumLanes / kThreads;
  extern __shared__ float4 smem[];
  __shared__ RowOutputSmem smem_output;
  __shared__ float smem_partial[kThreads / 32];
  const int size = params.out.num_channels;
  const int padded_size = AlignUp(size, kChunk);
  const bool has_gather = params.gather != nullptr;
  float* const smem_row = reinterpret_cast<float*>(smem);
  float* const smem_x = smem_row + padded_size;  // Where channels are gathered.
  const int first_h = kLanes * static_cast<int>(threadIdx.x);
  const int64_t row_idx = blockIdx.x;
  // A thread's lanes are neighbours in either place.
  const auto place_of = [&](int h) {
    return has_gather ? smem_x + h : smem_row + SlotOfChannel(h);
  };

  ReleaseNextGrids();
  WaitForPreviousGrids();
  const int64_t token_idx = params.rows != nullptr ? params.rows[row_idx] : row_idx;
  const T* const x_row = static_cast<const T*>(params.x) + token_idx * params.x_row_stride;

  float lanes[kLanes] = {};
  for (int base = first_h; base < padded_size; base += kBatch * kSumLanes) {
    float x[kBatch][kLanes];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      LoadFloats<kVectors>(x[i], x_row, base + i * kSumLanes, size);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
#pragma unroll
      for (int j = 0; j < kLanes; ++j) lanes[j] += x[i][j] * x[i][j];
      const int h = base + i * kSumLanes;
      if (h < padded_size) StoreFloats<true>(x[i], place_of(h), 0, kLanes);
    }
  }
  const float mean = SumLanes<kThreads>(lanes, smem_partial) / static_cast<float>(size);
  const float inverse_rms = 1.0f / sqrtf(mean + params.epsilon);

  RowMaxima maxima;
  for (int h = first_h; h < padded_size; h += kSumLanes) {
    float x[kLanes];
    float weight[kLanes];
    LoadFloats<true>(x, place_of(h), 0, kLanes);
    LoadFloats<kVectors>(weight, params.weight, h, size);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) {
      x[j] = (x[j] * inverse_rms) * weight[j];
      if (!has_gather && h + j < size) maxima.Add(x[j], h + j < params.out.num_int4);
    }
    StoreFloats<true>(x, place_of(h), 0, kLanes);
  }
  if (has_gather) __syncthreads();
  WriteGathered<kVectors, kThreads>(params.out, params.gather, smem_x, smem_row, maxima, row_idx,
                                    smem_output);
}

// The same for rows of up to kRounds * 1024 gathered channels. A CTA goes from row to row with the
// weights and the order in registers, read before the grid ahead has ended, and has the next row's
// loads under way while it writes one.
template <typename T, int kRounds>
__global__ void __launch_bounds__(kHeldThreads, HeldCtasPerSm(kRounds / 4))
    HeldRmsNormKernel(const __grid_constant__ RmsNormParams params, int num_rows) {
  constexpr int kLanes = kSumLanes / kHeldThreads;
  constexpr int kChunks = kRounds * kSumLanes / (kChunk * kHeldThreads);
  extern __shared__ float4 smem[];
  __shared__ RowOutputSmem smem_output;
  __shared__ float smem_partial[kHeldThreads / 32];
  const int size = params.out.num_channels;
  float* const smem_x = reinterpret_cast<float*>(smem);
  const int first_h = kLanes * static_cast<int>(threadIdx.x);

  ReleaseNextGrids();
  const HeldGather<kHeldThreads, kChunks> gather(params.gather, size);
  float weight[kRounds][kLanes];
#pragma unroll
  for (int i = 0; i < kRounds; ++i) {
    LoadFloats<true>(weight[i], params.weight, first_h + i * kSumLanes, size);
  }
  Vec<T, kLanes> loaded[kRounds];
  const auto load_row = [&](int64_t row_idx) {
    const int64_t token_idx = params.rows != nullptr ? params.rows[row_idx] : row_idx;
    const T* const x_row = static_cast<const T*>(params.x) + token_idx * params.x_row_stride;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      loaded[i] = LoadVec<kLanes>(x_row, first_h + i * kSumLanes, size);
    }
  };

  WaitForPreviousGrids();
  load_row(blockIdx.x);
  for (int64_t row_idx = blockIdx.x; row_idx < num_rows; row_idx += gridDim.x) {
    float x[kRounds][kLanes];
    float lanes[kLanes] = {};
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      ToFloats(x[i], loaded[i]);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) lanes[j] += x[i][j] * x[i][j];
    }
    const float mean = SumLanes<kHeldThreads>(lanes, smem_partial) / static_cast<float>(size);
    const float inverse_rms = 1.0f / sqrtf(mean + params.epsilon);
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
#pragma unroll
      for (int j = 0; j < kLanes; ++j) x[i][j] = (x[i][j] * inverse_rms) * weight[i][j];
      StoreFloats<true>(x[i], smem_x, first_h + i * kSumLanes, size);
    }
    if (row_idx + gridDim.x < num_rows) load_row(row_idx + gridDim.x);
    __syncthreads();
    gather.Write(params.out, smem_x, row_idx, smem_output);
  }
}

template <typename T>
Status LaunchRmsNorm(const RmsNormArgs& args, cudaStream_t stream) {
  RmsNormParams params{.out = MakeRowOutputParams(args.out),
                       .x = args.x.data(),
                       .x_row_stride = args.x.stride(0),
                       .weight = args.weight.as<float>(),
                       .gather = nullptr,
                       .rows = nullptr,
                       .epsilon = args.epsilon};
  if (args.gather.is_present()) params.gather = args.gather.as<int32_t>();
  if (args.rows.is_present()) params.rows = args.rows.as<int32_t>();
  const int num_channels = params.out.num_channels;
  const bool has_vectors = num_channels % kChunk == 0 && HasAlignedRows(args.x, 16) &&
                           IsAligned(params.weight, 16) && IsAligned(params.gather, 16);
  const int num_rows = args.out.num_tokens();
  COMET_ASSIGN_OR_RETURN(const DeviceLimits limits, QueryDeviceLimits());
  if (has_vectors && params.gather != nullptr &&
      TakesHeld(num_rows, num_channels, limits.num_sms)) {
    const LaunchShape held{.grid = dim3(HeldGridSize(num_rows, num_channels, limits.num_sms)),
                           .num_threads = kHeldThreads,
                           .smem_bytes = RowSmemBytes(num_channels, /*has_gather=*/false)};
    return Launch("rms_norm", limits, held, stream,
                  num_channels <= kHeldChannels ? HeldRmsNormKernel<T, 4> : HeldRmsNormKernel<T, 8>,
                  params, num_rows);
  }
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(num_rows)),
                          .num_threads = RowThreads(num_rows, limits.num_sms),
                          .smem_bytes = RowSmemBytes(num_channels, args.gather.is_present())};
  const auto launch = [&]<int kThreads>() {
    return Launch(
        "rms_norm", limits, shape, stream,
        has_vectors ? RmsNormKernel<T, kThreads, true> : RmsNormKernel<T, kThreads, false>, params);
  };
  return shape.num_threads == 512 ? launch.template operator()<512>()
                                  : launch.template operator()<256>();
}

}  // namespace

Status RmsNorm(const RmsNormArgs& args, cudaStream_t stream) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.out.num_tokens() == 0 || args.out.num_channels() == 0) return Status::Ok();
  return args.x.dtype() == DType::kF16 ? LaunchRmsNorm<__half>(args, stream)
                                       : LaunchRmsNorm<float>(args, stream);
}

}  // namespace comet::cuda
