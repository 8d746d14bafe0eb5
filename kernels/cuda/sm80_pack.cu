// kernels/cuda/sm80_pack.cu
//
// Mapping  A CTA of 256 threads a unit; a thread writes the 16 bytes that a lane of the product
//          reads of one fragment, and one of the first 64 threads a step.
// Traffic  Codes and steps once in, once out, 1.03 bytes two weights each way; runs at load, behind
//          a copy over the bus that is many times slower.
// Limits   None: codes are read a byte at a time, so rows may begin anywhere.

#include "kernels/cuda/sm80_pack.h"

#include <cuda_runtime.h>

#include "kernels/base/math.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

namespace comet::sm80 {
namespace {

constexpr int kThreads = kUnitCodeBytes / 16;

__global__ void __launch_bounds__(kThreads) PackKernel(const cuda::PackArgs args) {
  const int num_blocks = CeilDiv(args.num_inputs, kUnitChannels);
  const int num_int4_blocks = args.num_int4_channels / kUnitChannels;
  const int row_bytes = args.num_inputs / 2;
  const int step_idx = static_cast<int>(blockIdx.x);
  const int unit_row_idx = static_cast<int>(blockIdx.y);
  const int block_idx = BlockOfStep(step_idx, num_int4_blocks, num_blocks - num_int4_blocks);
  const int thread_idx = static_cast<int>(threadIdx.x);
  const int lane_idx = thread_idx % 32;
  const int tile = thread_idx / 32 % 4;
  const int half = thread_idx / 128;
  const int first_output = unit_row_idx * kUnitOutputs;
  uint8_t* const unit =
      args.units + (int64_t{unit_row_idx} * num_blocks + step_idx) * int64_t{kUnitBytes};

  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int output = first_output + lane_idx / 4 * 8 + 2 * tile + i % 2;
    const int channel = block_idx * kUnitChannels + 64 * half + lane_idx % 4 * 16 + 8 * (i / 2);
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
  reinterpret_cast<uint4*>(unit)[thread_idx] = make_uint4(words[0], words[1], words[2], words[3]);

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

}  // namespace comet::sm80
