// Mapping  A CTA computes kTileN outputs of kTileM tokens; each warp kWarpTileN outputs of all of
//          them. Weights are the first operand of the multiply, so y is computed transposed and a
//          narrow batch wastes little of it. Both operands pass through kStages buffers of 128
//          channels, filled by asynchronous copies; 16-byte chunk c of row r lies at c ^ (r % 8),
//          so the rows of a matrix load meet no bank conflict. Token tiles of the same outputs are
//          neighbours in the grid: all but the first find the weights in L2.
// Traffic  N * K of weights, ceil(M / kTileM) * N / kTileN * kTileM * K of codes from L2, M * N of
// y:
//          the weights bound it while M is below some 200.
// Limits   Rows of codes at multiples of 16 bytes. mma.sync reaches 62 % of Hopper's INT8 rate: for
//          large M this is not its fastest way.

#include <type_traits>

#include "kernels/base/math.h"
#include "kernels/cuda/device/ptx_async_copy.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/device/ptx_mma_s8.cuh"
#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/int8_linear.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_launch.h"
#include "kernels/cuda/row_weights.h"

namespace comet::cuda {
namespace {

constexpr int kTileN = 128;
constexpr int kTileK = 128;  // Bytes of a row in a stage: eight chunks, as many as swizzled rows.
constexpr int kChunkBytes = 16;
constexpr int kChunksPerRow = kTileK / kChunkBytes;
constexpr int kMmaK = 32;
constexpr int kMmaN = 16;  // Outputs of one multiply,
constexpr int kMmaM = 8;   // and tokens.
constexpr int kNumWarps = 4;
constexpr int kThreads = 32 * kNumWarps;
constexpr int kWarpTileN = kTileN / kNumWarps;
constexpr int kStages = 4;  // With two CTAs an SM 130 to 190 KB are under way: enough for HBM.

template <int kTileM>
struct SmemLayout {
  int8_t weights[kStages][kTileN * kTileK];
  int8_t codes[kStages][kTileM * kTileK];
};

struct Int8LinearParams {
  void* y;
  int64_t y_row_stride;
  const int8_t* codes;
  int64_t codes_row_stride;
  const float* token_scale;
  const int32_t* exponent;
  const int8_t* weights;
  int64_t weights_row_stride;
  const float* scale;
  const float* bias;
  const void* residual;
  int64_t residual_row_stride;
  int num_tokens;
  int num_outputs;
  int num_inputs;
};

__device__ __forceinline__ int SwizzledOffset(int row, int chunk) {
  return row * kTileK + (chunk ^ (row % 8)) * kChunkBytes;
}

// Rows [first_row, first_row + kRows) x channels [k, k + kTileK); zeros past both ends.
template <int kRows>
__device__ __forceinline__ void StartTileCopy(int8_t* smem_tile, const int8_t* rows,
                                              int64_t row_stride, int first_row, int num_rows,
                                              int k, int num_inputs) {
  for (int i = threadIdx.x; i < kRows * kChunksPerRow; i += kThreads) {
    const int row = i / kChunksPerRow;
    const int chunk = i % kChunksPerRow;
    const int first_k = k + chunk * kChunkBytes;
    const bool is_inside = first_row + row < num_rows && first_k < num_inputs;
    const int num_bytes = is_inside ? min(kChunkBytes, num_inputs - first_k) : 0;
    const int8_t* source = is_inside ? rows + (first_row + row) * row_stride + first_k : rows;
    ptx::StartAsyncCopy16(smem_tile + SwizzledOffset(row, chunk), source, num_bytes);
  }
}

// acc[i][j] += the warp's outputs 16 i ... x tokens 8 j ... of one stage.
template <int kTileM>
__device__ __forceinline__ void MultiplyStage(int (&acc)[kWarpTileN / kMmaN][kTileM / kMmaM][4],
                                              const int8_t* smem_weights,
                                              const int8_t* smem_codes) {
  const int lane_idx = threadIdx.x % 32;
  const int warp_n = threadIdx.x / 32 * kWarpTileN;
#pragma unroll
  for (int step = 0; step < kTileK / kMmaK; ++step) {
    uint32_t frag_weights[kWarpTileN / kMmaN][4];
#pragma unroll
    for (int i = 0; i < kWarpTileN / kMmaN; ++i) {
      const int row = warp_n + i * kMmaN + lane_idx % 16;
      ptx::LoadMatrices(frag_weights[i],
                        smem_weights + SwizzledOffset(row, 2 * step + lane_idx / 16));
    }
#pragma unroll
    for (int j = 0; j < kTileM / kMmaM; j += 2) {
      uint32_t frag_codes[4];  // Both halves of the channels for tokens 8 j ..., then 8 (j + 1) ...
      const int token = j * kMmaM + lane_idx / 16 * 8 + lane_idx % 8;
      ptx::LoadMatrices(frag_codes,
                        smem_codes + SwizzledOffset(token, 2 * step + lane_idx / 8 % 2));
#pragma unroll
      for (int i = 0; i < kWarpTileN / kMmaN; ++i) {
        ptx::MultiplyS8(acc[i][j], frag_weights[i], frag_codes[0], frag_codes[1]);
        ptx::MultiplyS8(acc[i][j + 1], frag_weights[i], frag_codes[2], frag_codes[3]);
      }
    }
  }
}

template <typename T>
__device__ __forceinline__ void StoreOutput(const Int8LinearParams& params, int acc, float scale,
                                            float token_scale, float bias, int exponent, int token,
                                            int output) {
  // The shift is exact: exponent_max bounds the sum to 31 bits.
  float y = static_cast<float>(acc << exponent) * (scale * token_scale);
  if (params.bias != nullptr) y += bias;
  if (params.residual != nullptr) {
    y += ToFloat(
        static_cast<const T*>(params.residual)[token * params.residual_row_stride + output]);
  }
  static_cast<T*>(params.y)[token * params.y_row_stride + output] = FromFloat<T>(y);
}

template <typename T, int kTileM>
__device__ __forceinline__ void WriteTile(const Int8LinearParams& params,
                                          const int (&acc)[kWarpTileN / kMmaN][kTileM / kMmaM][4],
                                          int m_offset, int n_offset) {
  const int lane_idx = threadIdx.x % 32;
  const int first_output = n_offset + threadIdx.x / 32 * kWarpTileN + lane_idx / 4;
  float scale[kWarpTileN / 8];
  float bias[kWarpTileN / 8] = {};
#pragma unroll
  for (int i = 0; i < kWarpTileN / 8; ++i) {
    const int output = min(first_output + 8 * i, params.num_outputs - 1);
    scale[i] = params.scale[output];
    if (params.bias != nullptr) bias[i] = params.bias[output];
  }
#pragma unroll
  for (int j = 0; j < kTileM / kMmaM; ++j) {
#pragma unroll
    for (int column = 0; column < 2; ++column) {
      const int token = m_offset + j * kMmaM + lane_idx % 4 * 2 + column;
      if (token >= params.num_tokens) continue;
      const float token_scale = params.token_scale[token];
      const int exponent = params.exponent[token];
#pragma unroll
      for (int i = 0; i < kWarpTileN / 8; ++i) {
        if (first_output + 8 * i >= params.num_outputs) continue;
        StoreOutput<T>(params, acc[i / 2][j][i % 2 * 2 + column], scale[i], token_scale, bias[i],
                       exponent, token, first_output + 8 * i);
      }
    }
  }
}

template <typename T, int kTileM>
__global__ void __launch_bounds__(kThreads)
    Int8LinearKernel(const __grid_constant__ Int8LinearParams params) {
  extern __shared__ uint4 smem_bytes[];
  auto& smem = *reinterpret_cast<SmemLayout<kTileM>*>(smem_bytes);
  const int m_offset = static_cast<int>(blockIdx.x) * kTileM;
  const int n_offset = static_cast<int>(blockIdx.y) * kTileN;
  const int num_steps = CeilDiv(params.num_inputs, kTileK);
  const auto start_weights = [&](int step_idx) {
    StartTileCopy<kTileN>(smem.weights[step_idx % kStages], params.weights,
                          params.weights_row_stride, n_offset, params.num_outputs,
                          step_idx * kTileK, params.num_inputs);
  };
  const auto start_codes = [&](int step_idx) {
    StartTileCopy<kTileM>(smem.codes[step_idx % kStages], params.codes, params.codes_row_stride,
                          m_offset, params.num_tokens, step_idx * kTileK, params.num_inputs);
  };

  // Weights are no grid's output: their first stages need not wait for the grid before.
  ReleaseNextGrids();
  for (int step_idx = 0; step_idx < kStages - 1; ++step_idx) start_weights(step_idx);
  WaitForPreviousGrids();
  for (int step_idx = 0; step_idx < kStages - 1; ++step_idx) {
    start_codes(step_idx);
    ptx::CommitAsyncCopies();
  }

  int acc[kWarpTileN / kMmaN][kTileM / kMmaM][4] = {};
  for (int step_idx = 0; step_idx < num_steps; ++step_idx) {
    ptx::WaitAsyncCopies<kStages - 2>();
    __syncthreads();  // This stage is there, and the one before may be filled anew.
    const int next_idx = step_idx + kStages - 1;
    if (next_idx < num_steps) {
      start_weights(next_idx);
      start_codes(next_idx);
    }
    ptx::CommitAsyncCopies();  // Maybe empty: the count of groups is what the wait counts.
    MultiplyStage<kTileM>(acc, smem.weights[step_idx % kStages], smem.codes[step_idx % kStages]);
  }
  WriteTile<T, kTileM>(params, acc, m_offset, n_offset);
}

template <typename T>
Status LaunchInt8Linear(const LinearArgs& args, const RowWeights& weights, cudaStream_t stream) {
  Int8LinearParams params{.y = args.y.data(),
                          .y_row_stride = args.y.stride(0),
                          .codes = args.x.codes.as<int8_t>(),
                          .codes_row_stride = args.x.codes.stride(0),
                          .token_scale = args.x.scale.as<float>(),
                          .exponent = args.x.exponent.as<int32_t>(),
                          .weights = weights.rows().as<int8_t>(),
                          .weights_row_stride = weights.rows().stride(0),
                          .scale = weights.scale(),
                          .bias = nullptr,
                          .residual = args.residual.data(),
                          .residual_row_stride = 0,
                          .num_tokens = args.y.dim(0),
                          .num_outputs = args.y.dim(1),
                          .num_inputs = weights.num_inputs()};
  if (args.bias.is_present()) params.bias = args.bias.as<float>();
  if (args.residual.is_present()) params.residual_row_stride = args.residual.stride(0);
  COMET_ASSIGN_OR_RETURN(const DeviceLimits limits, QueryDeviceLimits());
  const auto launch = [&]<int kTileM>(std::integral_constant<int, kTileM>) {
    const LaunchShape shape{
        .grid = dim3(static_cast<unsigned>(CeilDiv(params.num_tokens, kTileM)),
                     static_cast<unsigned>(CeilDiv(params.num_outputs, kTileN))),
        .num_threads = kThreads,
        .smem_bytes = sizeof(SmemLayout<kTileM>)};
    return Launch("linear (int8)", limits, shape, stream, Int8LinearKernel<T, kTileM>, params);
  };
  if (params.num_tokens <= 16) return launch(std::integral_constant<int, 16>());
  if (params.num_tokens <= 32) return launch(std::integral_constant<int, 32>());
  return launch(std::integral_constant<int, 64>());
}

}  // namespace

Status Int8Linear(const LinearArgs& args, cudaStream_t stream) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.y.dim(0) == 0 || args.y.dim(1) == 0) return Status::Ok();
  const auto* weights = dynamic_cast<const RowWeights*>(args.weights);
  COMET_CHECK_MSG(weights != nullptr, "weights were packed by another back end");
  if (!HasAlignedRows(args.x.codes, kChunkBytes)) {
    return Unimplemented(StrCat("linear (int8): codes ", args.x.codes.shape().ToString(),
                                " have rows ", args.x.codes.stride(0),
                                " bytes apart or an odd address, expected multiples of 16"));
  }
  return args.y.dtype() == DType::kF16 ? LaunchInt8Linear<__half>(args, *weights, stream)
                                       : LaunchInt8Linear<float>(args, *weights, stream);
}

}  // namespace comet::cuda
