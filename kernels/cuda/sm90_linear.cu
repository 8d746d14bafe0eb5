// kernels/cuda/sm90_linear.cu
//
// The mapping of unit_pack.cuh; a CTA has 128 threads, each of which writes the two 16-byte vectors
// that the same thread of the product's warpgroup reads.

#include "kernels/cuda/sm90_linear.h"
#include "kernels/cuda/sm90_w4ax_layout.h"
#include "kernels/cuda/unit_pack.cuh"

namespace comet::sm90 {
namespace {

constexpr int kThreads = 128;  // Of a warpgroup.
constexpr int kWords = 8;      // Of a thread: 4 steps of 32 channels x 2 outputs.

// Four nibbles to the low halves of four bytes.
__device__ uint32_t SpreadNibbles(uint32_t low, uint32_t high) {
  return (low & 0xf) | (low >> 4) << 8 | (high & 0xf) << 16 | (high >> 4) << 24;
}

// The codes of channels `channel`..`channel` + 3 of a row, one a byte; 0 past K.
__device__ uint32_t FourCodes(const uint8_t* row, int channel, int num_inputs) {
  if (row == nullptr) return 0;
  const int byte_idx = channel / 2;
  const uint32_t low = channel < num_inputs ? row[byte_idx] : 0;
  const uint32_t high = channel + 2 < num_inputs ? row[byte_idx + 1] : 0;
  return SpreadNibbles(low, high);
}

__global__ void __launch_bounds__(kThreads) PackKernel(const cuda::PackArgs args) {
  const cuda::PackedUnit unit = cuda::UnitOfCta(args);
  const int thread_idx = static_cast<int>(threadIdx.x);
  const int lane_idx = thread_idx % 32;

  const uint8_t* rows[2];
  const int output = unit.first_output + thread_idx / 32 * 16 + lane_idx / 4 * 2;
  for (int half = 0; half < 2; ++half) {
    rows[half] = output + half < args.num_outputs
                     ? args.codes + int64_t{output + half} * (args.num_inputs / 2)
                     : nullptr;
  }
  uint32_t words[kWords];
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    const int channel = unit.block_idx * kUnitChannels + i / 2 * 32 + lane_idx % 4 * 4;
    const uint8_t* const row = rows[i % 2];
    const uint32_t codes = FourCodes(row, channel, args.num_inputs) |
                           FourCodes(row, channel + 16, args.num_inputs) << 4;
    words[i] = codes ^ 0x88888888u;  // Flipping bit 3 of a two's complement nibble adds 8.
  }
  uint4* const vectors = reinterpret_cast<uint4*>(unit.data);
  vectors[thread_idx] = make_uint4(words[0], words[1], words[2], words[3]);
  vectors[kThreads + thread_idx] = make_uint4(words[4], words[5], words[6], words[7]);
  cuda::PackSteps(args, unit);
}

}  // namespace

Status PackUnits(const cuda::PackArgs& args, cudaStream_t stream) {
  return cuda::LaunchPack(PackKernel, kThreads, args, stream);
}

}  // namespace comet::sm90
