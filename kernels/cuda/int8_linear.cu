// Mapping  A CTA computes kTileN outputs of kTileM tokens, each warp a part of both. Weights are
// the first operand of the multiply, so y is computed transposed and a
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
#include "kernels/base/str_cat.h"
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

// How a CTA shares its tile of kTileN outputs x kTileM tokens among warps. Small M is a matter of
// bytes under way (two CTAs an SM hold 130 to 190 KB), large M of multiplies a matrix load: 16
// for 6.
struct NarrowTile {
  static constexpr int kWarpsN = 4;
  static constexpr int kWarpsM = 1;
  static constexpr int kStages = 4;
};
template <int kTileMValue>
struct Tile : NarrowTile {
  static constexpr int kTileM = kTileMValue;
};
template <>
struct Tile<128> {
  static constexpr int kTileM = 128;
  static constexpr int kWarpsN = 2;
  static constexpr int kWarpsM = 4;
  static constexpr int kStages = 3;
};

template <typename Config>
struct Shape : Config {
  static constexpr int kThreads = 32 * Config::kWarpsN * Config::kWarpsM;
  static constexpr int kWarpTileN = kTileN / Config::kWarpsN;
  static constexpr int kWarpTileM = Config::kTileM / Config::kWarpsM;
  static constexpr int kFragsN = kWarpTileN / kMmaN;
  static constexpr int kFragsM = kWarpTileM / kMmaM;
};

template <typename S>
struct SmemLayout {
  int8_t weights[S::kStages][kTileN * kTileK];
  int8_t codes[S::kStages][S::kTileM * kTileK];
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

// A thread's part of copying tiles of kRows rows x kTileK channels from a matrix: one chunk of
// every kThreads / kChunksPerRow-th row. Zeros past the matrix's rows and channels. What does not
// change from tile to tile is worked out once, as addresses are as many instructions as multiplies.
template <int kRows, int kThreads>
class TileCopy {
 public:
  __device__ __forceinline__ TileCopy(const int8_t* rows, int64_t row_stride, int first_row,
                                      int num_rows, int num_inputs)
      : rows_(rows), row_step_(kRowStep * row_stride) {
    const int row = static_cast<int>(threadIdx.x) / kChunksPerRow;
    const int chunk = static_cast<int>(threadIdx.x) % kChunksPerRow;
    source_ = rows + (first_row + row) * row_stride + chunk * kChunkBytes;
    bytes_left_ = num_inputs - chunk * kChunkBytes;
    rows_inside_ = num_rows - first_row - row;
    smem_offset_ = SwizzledOffset(row, chunk);
  }

  // Channels [k, k + kTileK).
  __device__ __forceinline__ void Start(int8_t* smem_tile, int k) const {
    const int num_bytes = min(max(bytes_left_ - k, 0), kChunkBytes);
    const int8_t* source = source_ + k;
#pragma unroll
    for (int i = 0; i < kRows / kRowStep; ++i) {
      const bool is_inside = i * kRowStep < rows_inside_ && num_bytes > 0;
      // Rows kRowStep apart are swizzled alike, as it is a multiple of 8.
      ptx::StartAsyncCopy16(smem_tile + smem_offset_ + i * kRowStep * kTileK,
                            is_inside ? source : rows_, is_inside ? num_bytes : 0);
      source += row_step_;
    }
  }

 private:
  static constexpr int kRowStep = kThreads / kChunksPerRow;
  static_assert(kRows % kRowStep == 0 && kRowStep % 8 == 0);

  const int8_t* rows_;
  const int8_t* source_;
  int64_t row_step_;
  int bytes_left_;
  int rows_inside_;
  int smem_offset_;
};

// The operands of one step of 32 channels: weights of 16 outputs an entry, codes of 16 tokens.
template <typename S>
struct Frags {
  uint32_t weights[S::kFragsN][4];
  uint32_t codes[S::kFragsM / 2][4];

  __device__ __forceinline__ void Load(const int8_t* smem_weights, const int8_t* smem_codes,
                                       int step) {
    const int lane_idx = threadIdx.x % 32;
    const int warp_idx = threadIdx.x / 32;
    const int first_row = warp_idx % S::kWarpsN * S::kWarpTileN + lane_idx % 16;
    const int first_token =
        warp_idx / S::kWarpsN * S::kWarpTileM + lane_idx / 16 * 8 + lane_idx % 8;
#pragma unroll
    for (int i = 0; i < S::kFragsN; ++i) {
      ptx::LoadMatrices(weights[i], smem_weights + SwizzledOffset(first_row + i * kMmaN,
                                                                  2 * step + lane_idx / 16));
    }
#pragma unroll
    for (int j = 0; j < S::kFragsM / 2; ++j) {
      ptx::LoadMatrices(codes[j], smem_codes + SwizzledOffset(first_token + 2 * j * kMmaM,
                                                              2 * step + lane_idx / 8 % 2));
    }
  }
};

// acc[i][j] += the warp's outputs 16 i ... x tokens 8 j ... of one stage. Each step's operands are
// loaded while the step before multiplies.
template <typename S>
__device__ __forceinline__ void MultiplyStage(int (&acc)[S::kFragsN][S::kFragsM][4],
                                              const int8_t* smem_weights,
                                              const int8_t* smem_codes) {
  constexpr int kSteps = kTileK / kMmaK;
  Frags<S> frags[2];
  frags[0].Load(smem_weights, smem_codes, 0);
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    if (step + 1 < kSteps) frags[(step + 1) % 2].Load(smem_weights, smem_codes, step + 1);
    const Frags<S>& current = frags[step % 2];
#pragma unroll
    for (int j = 0; j < S::kFragsM; ++j) {
#pragma unroll
      for (int i = 0; i < S::kFragsN; ++i) {
        ptx::MultiplyS8(acc[i][j], current.weights[i], current.codes[j / 2][j % 2 * 2],
                        current.codes[j / 2][j % 2 * 2 + 1]);
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

template <typename T, typename S>
__device__ __forceinline__ void WriteTile(const Int8LinearParams& params,
                                          const int (&acc)[S::kFragsN][S::kFragsM][4], int m_offset,
                                          int n_offset) {
  constexpr int kRows = S::kWarpTileN / 8;  // Outputs of a thread.
  const int lane_idx = threadIdx.x % 32;
  const int warp_idx = threadIdx.x / 32;
  const int first_output = n_offset + warp_idx % S::kWarpsN * S::kWarpTileN + lane_idx / 4;
  const int first_token = m_offset + warp_idx / S::kWarpsN * S::kWarpTileM + lane_idx % 4 * 2;
  float scale[kRows];
  float bias[kRows] = {};
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int output = min(first_output + 8 * i, params.num_outputs - 1);
    scale[i] = params.scale[output];
    if (params.bias != nullptr) bias[i] = params.bias[output];
  }
#pragma unroll
  for (int j = 0; j < S::kFragsM; ++j) {
#pragma unroll
    for (int column = 0; column < 2; ++column) {
      const int token = first_token + j * kMmaM + column;
      if (token >= params.num_tokens) continue;
      const float token_scale = params.token_scale[token];
      const int exponent = params.exponent[token];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        if (first_output + 8 * i >= params.num_outputs) continue;
        StoreOutput<T>(params, acc[i / 2][j][i % 2 * 2 + column], scale[i], token_scale, bias[i],
                       exponent, token, first_output + 8 * i);
      }
    }
  }
}

template <typename T, typename S>
__global__ void __launch_bounds__(S::kThreads, 2)
    Int8LinearKernel(const __grid_constant__ Int8LinearParams params) {
  constexpr int kStages = S::kStages;
  extern __shared__ uint4 smem_bytes[];
  auto& smem = *reinterpret_cast<SmemLayout<S>*>(smem_bytes);
  const int m_offset = static_cast<int>(blockIdx.x) * S::kTileM;
  const int n_offset = static_cast<int>(blockIdx.y) * kTileN;
  const int num_steps = CeilDiv(params.num_inputs, kTileK);
  const TileCopy<kTileN, S::kThreads> weights(params.weights, params.weights_row_stride, n_offset,
                                              params.num_outputs, params.num_inputs);
  const TileCopy<S::kTileM, S::kThreads> codes(params.codes, params.codes_row_stride, m_offset,
                                               params.num_tokens, params.num_inputs);
  const auto start_weights = [&](int step_idx) {
    weights.Start(smem.weights[step_idx % kStages], step_idx * kTileK);
  };
  const auto start_codes = [&](int step_idx) {
    codes.Start(smem.codes[step_idx % kStages], step_idx * kTileK);
  };

  // Weights are no grid's output: their first stages need not wait for the grid before.
  ReleaseNextGrids();
  for (int step_idx = 0; step_idx < kStages - 1; ++step_idx) start_weights(step_idx);
  WaitForPreviousGrids();
  for (int step_idx = 0; step_idx < kStages - 1; ++step_idx) {
    start_codes(step_idx);
    ptx::CommitAsyncCopies();
  }

  int acc[S::kFragsN][S::kFragsM][4] = {};
  for (int step_idx = 0; step_idx < num_steps; ++step_idx) {
    ptx::WaitAsyncCopies<kStages - 2>();
    __syncthreads();  // This stage is there, and the one before may be filled anew.
    const int next_idx = step_idx + kStages - 1;
    if (next_idx < num_steps) {
      start_weights(next_idx);
      start_codes(next_idx);
    }
    ptx::CommitAsyncCopies();  // Maybe empty: the count of groups is what the wait counts.
    MultiplyStage<S>(acc, smem.weights[step_idx % kStages], smem.codes[step_idx % kStages]);
  }
  WriteTile<T, S>(params, acc, m_offset, n_offset);
}

template <typename T>
Status LaunchInt8Linear(const LinearArgs& args, const RowWeights& weights, Launcher& launcher) {
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
  const auto launch = [&]<int kTileM>(std::integral_constant<int, kTileM>) {
    using S = Shape<Tile<kTileM>>;
    const LaunchShape shape{
        .grid = dim3(static_cast<unsigned>(CeilDiv(params.num_tokens, kTileM)),
                     static_cast<unsigned>(CeilDiv(params.num_outputs, kTileN))),
        .num_threads = S::kThreads,
        .smem_bytes = sizeof(SmemLayout<S>)};
    return launcher.Launch("linear (int8)", shape, Int8LinearKernel<T, S>, params);
  };
  if (params.num_tokens <= 16) return launch(std::integral_constant<int, 16>());
  if (params.num_tokens <= 32) return launch(std::integral_constant<int, 32>());
  if (params.num_tokens <= 64) return launch(std::integral_constant<int, 64>());
  return launch(std::integral_constant<int, 128>());
}

}  // namespace

Status Int8Linear(const LinearArgs& args, Launcher& launcher) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.y.dim(0) == 0 || args.y.dim(1) == 0) return Status::Ok();
  const auto* weights = dynamic_cast<const RowWeights*>(args.weights);
  COMET_CHECK_MSG(weights != nullptr, "weights were packed by another back end");
  if (!HasAlignedRows(args.x.codes, kChunkBytes)) {
    return Unimplemented(StrCat("linear (int8): codes ", args.x.codes.shape().ToString(),
                                " have rows ", args.x.codes.stride(0),
                                " bytes apart or an odd address, expected multiples of 16"));
  }
  return args.y.dtype() == DType::kF16 ? LaunchInt8Linear<__half>(args, *weights, launcher)
                                       : LaunchInt8Linear<float>(args, *weights, launcher);
}

}  // namespace comet::cuda
