// kernels/cuda/sm80_linear.cu
//
// The mapping of unit_pack.cuh; a CTA has 256 threads, each of which writes the 16 bytes that a
// lane of the product reads of one fragment.

#include "kernels/cuda/sm80_linear.h"
#include "kernels/cuda/sm80_w4ax_layout.h"
#include "kernels/cuda/unit_pack.cuh"

namespace comet::sm80 {
namespace {

constexpr int kThreads = kUnitCodeBytes / 16;

__global__ void __launch_bounds__(kThreads) PackKernel(const cuda::PackArgs args) {
  const cuda::PackedUnit unit = cuda::UnitOfCta(args);
  const int row_bytes = args.num_inputs / 2;
  const int thread_idx = static_cast<int>(threadIdx.x);
  const int lane_idx = thread_idx % 32;
  const int tile = thread_idx / 32 % 4;
  const int half = thread_idx / 128;

  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int output = unit.first_output + lane_idx / 4 * 8 + 2 * tile + i % 2;
    const int channel =
        unit.block_idx * kUnitChannels + 64 * half + lane_idx % 4 * 16 + 8 * (i / 2);
    const int first_byte = channel / 2;
    uint32_t nibbles = 0;
    if (output < args.num_outputs) {
      const uint8_t* const row = args.codes + int64_t{output} * row_bytes;
      for (int b = 0; b < 4; ++b) {
        if (first_byte + b < row_bytes) nibbles |= uint32_t{row[first_byte + b]} << (8 * b);
      }
    }
    words[i] = InterleaveCodes(nibbles);
  }
  reinterpret_cast<uint4*>(unit.data)[thread_idx] =
      make_uint4(words[0], words[1], words[2], words[3]);
  cuda::PackSteps(args, unit);
}

}  // namespace

Status PackUnits(const cuda::PackArgs& args, cudaStream_t stream) {
  return cuda::LaunchPack(PackKernel, kThreads, args, stream);
}

}  // namespace comet::sm80
