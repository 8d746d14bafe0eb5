// Mapping  A grid-stride loop over elements, one a thread.
// Traffic  Written once. The hash of each element, 64-bit multiplications, bounds it: 10^11
//          elements a second and more, at load alone.

#include "kernels/cuda/random_rows.h"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/cuda_status.h"
#include "kernels/ops/random_linear.h"

namespace comet::cuda {
namespace {

using random_linear::SeedOf;
using random_linear::Stream;

constexpr int kThreads = 256;
constexpr int kCtas = 2048;

// `element(i)` is that of place i in the matrix.
template <typename T, typename Element>
__global__ void __launch_bounds__(kThreads)
    FillKernel(T* out, const RandomRows rows, const Element element) {
  const int64_t count = rows.num_rows * rows.row_stride;
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const int64_t row = rows.first_row + i / rows.row_stride;
    const int64_t column = i % rows.row_stride;
    out[i] = column < rows.num_columns
                 ? element(static_cast<uint64_t>(row * rows.num_columns + column))
                 : T{};
  }
}

template <typename T, typename Element>
Status Fill(T* out, const RandomRows& rows, cudaStream_t stream, const Element& element) {
  if (rows.num_rows == 0) return Status::Ok();
  FillKernel<<<kCtas, kThreads, 0, stream>>>(out, rows, element);
  return LaunchStatus("random_rows");
}

struct CodePair {
  uint64_t seed;
  __device__ uint8_t operator()(uint64_t i) const { return random_linear::ByteAt(seed, i); }
};
struct Step {
  uint64_t seed;
  __device__ int8_t operator()(uint64_t i) const {
    return random_linear::StepOf(random_linear::ByteAt(seed, i));
  }
};
struct Int8Code {
  uint64_t seed;
  __device__ int8_t operator()(uint64_t i) const {
    return random_linear::Int8CodeOf(random_linear::ByteAt(seed, i));
  }
};
struct HalfBits {
  uint64_t seed;
  __device__ uint16_t operator()(uint64_t i) const {
    return __half_as_ushort(__float2half_rn(random_linear::ValueOf(
        random_linear::ByteAt(seed, 2 * i), random_linear::ByteAt(seed, 2 * i + 1))));
  }
};
struct Scale {
  uint64_t seed;
  float unit;
  __device__ float operator()(uint64_t i) const {
    return random_linear::ScaleOf(random_linear::ByteAt(seed, i), unit);
  }
};

}  // namespace

Status FillRandomCodePairs(uint8_t* out, const RandomRows& rows, cudaStream_t stream) {
  return Fill(out, rows, stream, CodePair{SeedOf(rows.seed, Stream::kCodes)});
}

Status FillRandomSteps(int8_t* out, const RandomRows& rows, cudaStream_t stream) {
  return Fill(out, rows, stream, Step{SeedOf(rows.seed, Stream::kSteps)});
}

Status FillRandomInt8Codes(int8_t* out, const RandomRows& rows, cudaStream_t stream) {
  return Fill(out, rows, stream, Int8Code{SeedOf(rows.seed, Stream::kCodes)});
}

Status FillRandomHalfs(uint16_t* out, const RandomRows& rows, cudaStream_t stream) {
  return Fill(out, rows, stream, HalfBits{SeedOf(rows.seed, Stream::kCodes)});
}

Status FillRandomScales(float* out, const RandomRows& rows, float unit, cudaStream_t stream) {
  return Fill(out, rows, stream, Scale{SeedOf(rows.seed, Stream::kScale), unit});
}

}  // namespace comet::cuda
