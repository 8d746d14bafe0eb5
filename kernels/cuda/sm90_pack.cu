// Mapping  A CTA of 128 threads a unit; thread i writes the two 16-byte vectors that thread i of
//          the product's warpgroup reads, and one of the first 64 threads a step.
// Traffic  Codes and steps once in, once out, 1.03 bytes two weights each way; runs at load, behind
//          a copy over the bus that is 50 times slower.
// Limits   None: codes are read a byte at a time, so rows may begin anywhere.

#include "kernels/cuda/sm90_pack.h"

#include <cuda_runtime.h>

#include "kernels/base/math.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sm90_w4ax_layout.h"

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
  const int num_blocks = CeilDiv(args.num_inputs, kUnitChannels);
  const int num_int4_blocks = args.num_int4_channels / kUnitChannels;
  const int step_idx = blockIdx.x;
  const int unit_row_idx = blockIdx.y;
  const int block_idx = BlockOfStep(step_idx, num_int4_blocks, num_blocks - num_int4_blocks);
  const int thread_idx = threadIdx.x;
  const int lane_idx = thread_idx % 32;
  const int first_output = unit_row_idx * kUnitOutputs;
  const int first_channel = block_idx * kUnitChannels;
  uint8_t* const unit = args.units + (int64_t{unit_row_idx} * num_blocks + step_idx) * kUnitBytes;

  const uint8_t* rows[2];
  const int output = first_output + thread_idx / 32 * 16 + lane_idx / 4 * 2;
  for (int half = 0; half < 2; ++half) {
    rows[half] = output + half < args.num_outputs
                     ? args.codes + int64_t{output + half} * (args.num_inputs / 2)
                     : nullptr;
  }
  uint32_t words[kWords];
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    const int channel = first_channel + i / 2 * 32 + lane_idx % 4 * 4;
    const uint8_t* const row = rows[i % 2];
    const uint32_t codes = FourCodes(row, channel, args.num_inputs) |
                           FourCodes(row, channel + 16, args.num_inputs) << 4;
    words[i] = codes ^ 0x88888888u;  // Flipping bit 3 of a two's complement nibble adds 8.
  }
  uint4* const vectors = reinterpret_cast<uint4*>(unit);
  vectors[thread_idx] = make_uint4(words[0], words[1], words[2], words[3]);
  vectors[kThreads + thread_idx] = make_uint4(words[4], words[5], words[6], words[7]);

  if (thread_idx < kUnitOutputs) {
    const int n = first_output + thread_idx;
    unit[kUnitCodeBytes + thread_idx] =
        n < args.num_outputs ? static_cast<uint8_t>(args.steps[int64_t{n} * num_blocks + block_idx])
                             : 0;
  }
}

}  // namespace

Status PackUnits(const cuda::PackArgs& args, cudaStream_t stream) {
  if (args.num_outputs == 0) return Status::Ok();
  const dim3 grid(static_cast<unsigned>(CeilDiv(args.num_inputs, kUnitChannels)),
                  static_cast<unsigned>(CeilDiv(args.num_outputs, kUnitOutputs)));
  PackKernel<<<grid, kThreads, 0, stream>>>(args);
  return cuda::LaunchStatus("pack_units");
}

}  // namespace comet::sm90
