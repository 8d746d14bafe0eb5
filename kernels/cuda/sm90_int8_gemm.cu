// y = x W^T for INT8 rows on Hopper: both operands as the copy engine lays them into shared memory.
//
// Mapping  A persistent CTA takes whole tiles of 128 tokens x 256 outputs, token tiles of the same
//          outputs first: all but one of them find the weights in L2. A warp each fills a ring of
//          stages with weights and codes; two warpgroups multiply 64 tokens x 256 outputs each. No
//          barrier joins them, so that one stores while the other still multiplies.
// Traffic  HBM: weights and codes once, y. L2 to SM: 48 KB for 128 x 256 x 128 products, which take
//          1024 cycles.
// Limits   Rows of codes at multiples of 16 bytes.

#include <cuda.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_bulk_copy.cuh"
#include "kernels/cuda/device/ptx_cluster.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/device/ptx_wgmma.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_launch.h"
#include "kernels/cuda/row_weights.h"
#include "kernels/cuda/sm90_gemm_epilogue.cuh"
#include "kernels/cuda/sm90_gemm_producer.cuh"
#include "kernels/cuda/sm90_int8_gemm.h"

namespace comet::sm90 {
namespace {

constexpr int kTileTokens = 128;
constexpr int kTileOutputs = 256;
constexpr int kBlockBytes = kBoxRowBytes;
constexpr int kConsumers = kTileTokens / 64;  // Warpgroups.
constexpr int kConsumerWarps = kConsumers * kWarpgroupThreads / kWarpThreads;
constexpr int kThreads = (1 + kConsumers) * kWarpgroupThreads;
// At entry every thread has 168 registers: 65536 / 384 threads, a multiple of 8.
constexpr int kProducerRegisters = 56;
constexpr int kConsumerRegisters = 224;

// Results leave through boxes of a warpgroup's tokens x 128 bytes, one filled while the other is
// stored: straight stores would be of 16 or 32 bytes a token.
constexpr int kGroupTokens = kTileTokens / kConsumers;
constexpr int kBoxBytes = kGroupTokens * kBoxRowBytes;

struct Int8GemmParams {
  CUtensorMap codes;    // [num_tokens, K], box [kTileTokens, 128].
  CUtensorMap weights;  // [num_outputs, K], box [kTileOutputs, 128].
  CUtensorMap y_boxes;  // y, rows of bytes, box [kGroupTokens, 128]; where stores_boxes.
  const float* weight_scale;
  const float* token_scale;
  const int32_t* exponent;
  const float* bias;     // Null where absent.
  const void* residual;  // Null where absent.
  void* y;
  int64_t residual_row_stride;
  int64_t y_row_stride;
  int num_tokens;
  int num_outputs;
  int num_blocks;
  bool stores_boxes;  // Rows of y are aligned for the copy engine.
  bool stores_pairs;  // Two neighbouring outputs of y and residual can be one access.
};

struct Int8Ring {
  static constexpr int kStages = 4;
};

struct alignas(1024) Int8Smem {
  uint8_t codes[Int8Ring::kStages][kTileTokens * kBlockBytes];
  uint8_t weights[Int8Ring::kStages][kTileOutputs * kBlockBytes];
  uint8_t boxes[kConsumers][2][kBoxBytes];
  float weight_scale[kConsumers][kTileOutputs];
  uint64_t full[Int8Ring::kStages];
  uint64_t empty[Int8Ring::kStages];
};
static_assert(sizeof(Int8Smem) <= kSmemBytesMax);

// Calls fill(tile, block_idx, stage_idx) for every block of every tile of this CTA, once its stage
// is free.
template <typename Fill>
__device__ __forceinline__ void FillStages(const Int8GemmParams& params, Int8Smem& smem,
                                           const Fill& fill) {
  const int num_token_tiles = CeilDiv(params.num_tokens, kTileTokens);
  const int num_tiles = num_token_tiles * CeilDiv(params.num_outputs, kTileOutputs);
  RingCursor<Int8Ring> cursor;
  for (int tile_idx = static_cast<int>(blockIdx.x); tile_idx < num_tiles;
       tile_idx += static_cast<int>(gridDim.x)) {
    const Tile tile{.row_idx = tile_idx / num_token_tiles, .token_idx = tile_idx % num_token_tiles};
    for (int block_idx = 0; block_idx < params.num_blocks; ++block_idx) {
      ptx::Wait(&smem.empty[cursor.stage_idx], cursor.phase ^ 1);
      if (IsLeader()) fill(tile, block_idx, cursor.stage_idx);
      cursor.Advance();
    }
  }
}

// Weights never change, so those of the first stages are on their way before the kernel that writes
// the codes has ended.
__device__ __forceinline__ void ProduceInt8Weights(const Int8GemmParams& params, Int8Smem& smem) {
  FillStages(params, smem, [&](Tile tile, int block_idx, int stage_idx) {
    ptx::ArriveAndExpect(&smem.full[stage_idx], kTileOutputs * kBlockBytes);
    ptx::CopyBox(smem.weights[stage_idx], &params.weights, block_idx * kBlockBytes,
                 tile.row_idx * kTileOutputs, &smem.full[stage_idx], ptx::kEvictNormal);
  });
}

__device__ __forceinline__ void ProduceInt8Codes(const Int8GemmParams& params, Int8Smem& smem) {
  cuda::WaitForPreviousGrids();
  FillStages(params, smem, [&](Tile tile, int block_idx, int stage_idx) {
    ptx::ArriveAndExpect(&smem.full[stage_idx], kTileTokens * kBlockBytes);
    ptx::CopyBox(smem.codes[stage_idx], &params.codes, block_idx * kBlockBytes,
                 tile.token_idx * kTileTokens, &smem.full[stage_idx], ptx::kEvictNormal);
  });
}

// Who a thread of a consumer warpgroup is, and what it needs of its two tokens.
struct Int8Consumer {
  __device__ Int8Consumer(const Int8GemmParams& params, int warpgroup, Tile tile)
      : warpgroup_idx(warpgroup),
        thread_idx(static_cast<int>(threadIdx.x) % kWarpgroupThreads),
        row(thread_idx / kWarpThreads * 16 + thread_idx % kWarpThreads / 4),
        pair(thread_idx % 4 * 2),
        first_token(tile.token_idx * kTileTokens + warpgroup * kGroupTokens),
        first_output(tile.row_idx * kTileOutputs) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int token = first_token + row + 8 * j;
      if (token >= params.num_tokens) continue;
      token_scale[j] = params.token_scale[token];
      exponent[j] = params.exponent[token];
    }
  }

  const int warpgroup_idx;
  const int thread_idx;
  const int row;   // Of its tokens, the second is 8 further, in the warpgroup;
  const int pair;  // of its two outputs in every eight.
  const int first_token;
  const int first_output;
  float token_scale[2] = {};
  int exponent[2] = {};
};

// y of token j and chunk `chunk` of a thread. Adds bias and residual where there are any.
template <typename T>
__device__ __forceinline__ float2 Int8Value(const Int8GemmParams& params, const Int8Consumer& me,
                                            const float* weight_scale, int chunk, int j,
                                            const int32_t (&acc)[kTileOutputs / 2]) {
  const float2 scale = *reinterpret_cast<const float2*>(weight_scale + 8 * chunk + me.pair);
  const auto sum_x = static_cast<float>(acc[4 * chunk + 2 * j] << me.exponent[j]);
  const auto sum_y = static_cast<float>(acc[4 * chunk + 2 * j + 1] << me.exponent[j]);
  float2 value =
      make_float2(sum_x * (scale.x * me.token_scale[j]), sum_y * (scale.y * me.token_scale[j]));
  if (params.bias == nullptr && params.residual == nullptr) return value;
  const int token = me.first_token + me.row + 8 * j;
  const int output = me.first_output + 8 * chunk + me.pair;
  const PairAccess access{
      .is_pair = false,
      .has_first = token < params.num_tokens && output < params.num_outputs,
      .has_second = token < params.num_tokens && output + 1 < params.num_outputs};
  if (params.bias != nullptr) {
    const float2 bias = ToFloats(LoadPair(params.bias + output, access));
    value = make_float2(value.x + bias.x, value.y + bias.y);
  }
  if (params.residual != nullptr) {
    const float2 addend = ToFloats(LoadPair(
        static_cast<const T*>(params.residual) + token * params.residual_row_stride + output,
        access));
    value = make_float2(value.x + addend.x, value.y + addend.y);
  }
  return value;
}

template <typename T>
__device__ __forceinline__ void StoreInt8Boxes(const Int8GemmParams& params, const Int8Consumer& me,
                                               Int8Smem& smem,
                                               const int32_t (&acc)[kTileOutputs / 2]) {
  constexpr int kBoxChunks = kBoxRowBytes / (8 * static_cast<int>(sizeof(T)));
  const float* const weight_scale = smem.weight_scale[me.warpgroup_idx];
#pragma unroll
  for (int box_idx = 0; box_idx < kTileOutputs / 8 / kBoxChunks; ++box_idx) {
    uint8_t* const box = smem.boxes[me.warpgroup_idx][box_idx % 2];
#pragma unroll
    for (int i = 0; i < kBoxChunks; ++i) {
      // 16 bytes of a row lie at their place ^ (row % 8).
      const int byte = (8 * i + me.pair) * static_cast<int>(sizeof(T));
      const int place = (byte / 16 ^ me.row % 8) * 16 + byte % 16;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        StorePair(reinterpret_cast<T*>(box + (me.row + 8 * j) * kBoxRowBytes + place),
                  Int8Value<T>(params, me, weight_scale, box_idx * kBoxChunks + i, j, acc));
      }
    }
    ptx::FenceForAsyncReaders();
    // Once all have come, this box is filled and the other one has been read.
    if (me.thread_idx == 0) ptx::WaitStoresRead();
    ptx::SyncThreads(kFirstGroupBarrier + me.warpgroup_idx, kWarpgroupThreads);
    if (me.thread_idx == 0) {
      ptx::StoreBox(&params.y_boxes,
                    me.first_output * static_cast<int>(sizeof(T)) + box_idx * kBoxRowBytes,
                    me.first_token, box);
      ptx::CommitStores();
    }
  }
}

template <typename T>
__device__ __forceinline__ void StoreInt8Pairs(const Int8GemmParams& params, const Int8Consumer& me,
                                               Int8Smem& smem,
                                               const int32_t (&acc)[kTileOutputs / 2]) {
#pragma unroll
  for (int chunk = 0; chunk < kTileOutputs / 8; ++chunk) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int token = me.first_token + me.row + 8 * j;
      const int output = me.first_output + 8 * chunk + me.pair;
      const bool has_first = token < params.num_tokens && output < params.num_outputs;
      const bool has_second = token < params.num_tokens && output + 1 < params.num_outputs;
      StorePair(static_cast<T*>(params.y) + token * params.y_row_stride + output,
                Int8Value<T>(params, me, smem.weight_scale[me.warpgroup_idx], chunk, j, acc),
                {.is_pair = params.stores_pairs && has_second,
                 .has_first = has_first,
                 .has_second = has_second});
    }
  }
}

template <typename T>
__device__ __forceinline__ void ConsumeInt8(const Int8GemmParams& params, Int8Smem& smem,
                                            int warpgroup_idx) {
  const int lane_idx = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int num_token_tiles = CeilDiv(params.num_tokens, kTileTokens);
  const int num_tiles = num_token_tiles * CeilDiv(params.num_outputs, kTileOutputs);
  const uint32_t first_codes =
      ptx::TileAddress(ptx::SharedAddress(smem.codes[0] + warpgroup_idx * kBoxBytes));
  const uint32_t first_weights = ptx::TileAddress(ptx::SharedAddress(smem.weights[0]));
  cuda::WaitForPreviousGrids();
  RingCursor<Int8Ring> cursor;
  for (int tile_idx = static_cast<int>(blockIdx.x); tile_idx < num_tiles;
       tile_idx += static_cast<int>(gridDim.x)) {
    const Int8Consumer me(
        params, warpgroup_idx,
        {.row_idx = tile_idx / num_token_tiles, .token_idx = tile_idx % num_token_tiles});
    // All are past the last box of the tile before, and its scales.
    for (int i = me.thread_idx; i < kTileOutputs; i += kWarpgroupThreads) {
      const int output = min(me.first_output + i, params.num_outputs - 1);
      smem.weight_scale[warpgroup_idx][i] = params.weight_scale[output];
    }
    int32_t acc[kTileOutputs / 2];
#pragma unroll
    for (int i = 0; i < kTileOutputs / 2; ++i) acc[i] = 0;
    int stage_before = 0;
#pragma unroll 1
    for (int block_idx = 0; block_idx < params.num_blocks; ++block_idx) {
      ptx::Wait(&smem.full[cursor.stage_idx], cursor.phase);
      const auto stage = static_cast<uint32_t>(cursor.stage_idx);
      const uint32_t codes = first_codes + stage * (kTileTokens * kBlockBytes / 16);
      const uint32_t weights = first_weights + stage * (kTileOutputs * kBlockBytes / 16);
      ptx::FenceProducts();
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        ptx::Multiply(acc, ptx::TileDescriptor(codes + i * ptx::kStep32),
                      ptx::TileDescriptor(weights + i * ptx::kStep32));
      }
      ptx::CommitProducts();
      ptx::WaitProducts<1>();
      if (block_idx > 0 && lane_idx == 0) ptx::Arrive(&smem.empty[stage_before]);
      stage_before = cursor.stage_idx;
      cursor.Advance();
    }
    ptx::WaitProducts<0>();
    if (lane_idx == 0) ptx::Arrive(&smem.empty[stage_before]);
    ptx::SyncThreads(kFirstGroupBarrier + warpgroup_idx, kWarpgroupThreads);  // Scales are there.
    if (params.stores_boxes) {
      StoreInt8Boxes<T>(params, me, smem, acc);
    } else {
      StoreInt8Pairs<T>(params, me, smem, acc);
      ptx::SyncThreads(kFirstGroupBarrier + warpgroup_idx, kWarpgroupThreads);
    }
  }
  ptx::WaitStores();
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    Int8GemmKernel(const __grid_constant__ Int8GemmParams params) {
  extern __shared__ __align__(1024) uint8_t smem_bytes[];
  Int8Smem& smem = *reinterpret_cast<Int8Smem*>(smem_bytes);
  const int thread_idx = static_cast<int>(threadIdx.x);
  const int warpgroup_idx = __shfl_sync(0xffffffff, thread_idx / kWarpgroupThreads, 0);

  cuda::ReleaseNextGrids();
  if (thread_idx == 0) {
    ptx::PrefetchTensorMap(&params.codes);
    ptx::PrefetchTensorMap(&params.weights);
    for (int i = 0; i < Int8Ring::kStages; ++i) {
      ptx::InitBarrier(&smem.full[i], kProducerWarps);
      ptx::InitBarrier(&smem.empty[i], kConsumerWarps);
    }
    ptx::FenceBarrierInit();
  }
  __syncthreads();

  if (warpgroup_idx == 0) {
    ptx::DecreaseRegisters<kProducerRegisters>();
    const int warp_idx = __shfl_sync(0xffffffff, thread_idx / kWarpThreads, 0);
    if (warp_idx == 0) ProduceInt8Weights(params, smem);
    if (warp_idx == 1) ProduceInt8Codes(params, smem);
  } else {
    ptx::IncreaseRegisters<kConsumerRegisters>();
    ConsumeInt8<T>(params, smem, warpgroup_idx - 1);
  }
}

}  // namespace

Result<Int8Gemm> Int8Gemm::Create() {
  COMET_ASSIGN_OR_RETURN(const cuda::DeviceLimits limits, cuda::QueryDeviceLimits());
  if (limits.compute_major != 9) {
    return Unimplemented(
        StrCat("linear (int8): device is sm_", limits.compute_major, "x, expected sm_90"));
  }
  COMET_ASSIGN_OR_RETURN(const TensorMapEncoder encoder, TensorMapEncoder::Create());
  return Int8Gemm(limits.num_sms, encoder);
}

Status Int8Gemm::Run(const LinearArgs& args, cuda::Launcher& launcher) const {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.y.dim(0) == 0 || args.y.dim(1) == 0) return Status::Ok();
  const auto* weights = dynamic_cast<const cuda::RowWeights*>(args.weights);
  COMET_CHECK_MSG(weights != nullptr, "weights were packed by another back end");
  constexpr int kCopyAlignment = 16;
  if (!cuda::HasAlignedRows(args.x.codes, kCopyAlignment)) {
    return Unimplemented(StrCat("linear (int8): codes ", args.x.codes.shape().ToString(),
                                " have rows ", args.x.codes.stride(0),
                                " bytes apart or an odd address, expected multiples of 16"));
  }
  const auto holds_pairs = [](const ConstTensorView& tensor) {
    return !tensor.is_present() || (tensor.stride(0) % 2 == 0 &&
                                    cuda::IsAligned(tensor.data(), 2 * BytesOf(tensor.dtype())));
  };
  Int8GemmParams params{
      .codes = {},
      .weights = {},
      .y_boxes = {},
      .weight_scale = weights->scale(),
      .token_scale = args.x.scale.as<float>(),
      .exponent = args.x.exponent.as<int32_t>(),
      .bias = args.bias.is_present() ? args.bias.as<float>() : nullptr,
      .residual = args.residual.data(),
      .y = args.y.data(),
      .residual_row_stride = args.residual.is_present() ? args.residual.stride(0) : 0,
      .y_row_stride = args.y.stride(0),
      .num_tokens = args.y.dim(0),
      .num_outputs = args.y.dim(1),
      .num_blocks = CeilDiv(weights->num_inputs(), kBlockBytes),
      .stores_boxes = cuda::HasAlignedRows(args.y, kCopyAlignment),
      .stores_pairs = holds_pairs(args.y) && holds_pairs(args.residual),
  };
  COMET_RETURN_IF_ERROR(encoder_.Encode(args.x.codes.data(), params.num_tokens,
                                        weights->num_inputs(), args.x.codes.stride(0), kTileTokens,
                                        params.codes));
  COMET_RETURN_IF_ERROR(encoder_.Encode(weights->rows().data(), params.num_outputs,
                                        weights->num_inputs(), weights->rows().stride(0),
                                        kTileOutputs, params.weights));
  if (params.stores_boxes) {
    const int element_bytes = BytesOf(args.y.dtype());
    COMET_RETURN_IF_ERROR(
        encoder_.Encode(args.y.data(), params.num_tokens, params.num_outputs * element_bytes,
                        args.y.stride(0) * element_bytes, kGroupTokens, params.y_boxes));
  }
  const int num_tiles =
      CeilDiv(params.num_tokens, kTileTokens) * CeilDiv(params.num_outputs, kTileOutputs);
  const cuda::LaunchShape shape{.grid = dim3(static_cast<unsigned>(std::min(num_tiles, num_sms_))),
                                .num_threads = kThreads,
                                .smem_bytes = sizeof(Int8Smem)};
  return args.y.dtype() == DType::kF16
             ? launcher.Launch("linear (int8)", shape, Int8GemmKernel<__half>, params)
             : launcher.Launch("linear (int8)", shape, Int8GemmKernel<float>, params);
}

}  // namespace comet::sm90
