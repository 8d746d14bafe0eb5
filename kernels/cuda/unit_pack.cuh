// kernels/cuda/unit_pack.cuh
//
// What the re-layouts of W4Ax weights have in common (sm80_linear.cu, sm90_linear.cu).
//
// Mapping  A CTA a unit (unit_layout.h): x walks over a row's units, y over rows of units. One of
//          the first 64 threads writes a step; the codes are the layout's.
// Traffic  Codes and steps once in, once out, 1.03 bytes two weights each way; runs at load, behind
//          a copy over the bus that is many times slower.
// Limits   None: codes are read a byte at a time, so rows may begin anywhere.
#pragma once

#include <cuda_runtime.h>

#include "kernels/base/math.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/unit_layout.h"
#include "kernels/cuda/unit_linear.h"

namespace comet::cuda {

// The unit that a CTA writes.
struct PackedUnit {
  uint8_t* data;
  int first_output;
  int num_blocks;  // Of a row of units.
  int block_idx;   // Of input channels.
};

__device__ __forceinline__ PackedUnit UnitOfCta(const PackArgs& args) {
  const int num_blocks = CeilDiv(args.num_inputs, kUnitChannels);
  const int num_int4_blocks = args.num_int4_channels / kUnitChannels;
  const int step_idx = static_cast<int>(blockIdx.x);
  const int unit_row_idx = static_cast<int>(blockIdx.y);
  return {
      .data = args.units + (int64_t{unit_row_idx} * num_blocks + step_idx) * int64_t{kUnitBytes},
      .first_output = unit_row_idx * kUnitOutputs,
      .num_blocks = num_blocks,
      .block_idx = BlockOfStep(step_idx, num_int4_blocks, num_blocks - num_int4_blocks)};
}

__device__ __forceinline__ void PackSteps(const PackArgs& args, const PackedUnit& unit) {
  const int thread_idx = static_cast<int>(threadIdx.x);
  if (thread_idx >= kUnitOutputs) return;
  const int n = unit.first_output + thread_idx;
  unit.data[kUnitCodeBytes + thread_idx] =
      n < args.num_outputs
          ? static_cast<uint8_t>(args.steps[int64_t{n} * unit.num_blocks + unit.block_idx])
          : 0;
}

inline Status LaunchPack(void (*kernel)(PackArgs), int num_threads, const PackArgs& args,
                         cudaStream_t stream) {
  if (args.num_outputs == 0) return Status::Ok();
  const dim3 grid(static_cast<unsigned>(CeilDiv(args.num_inputs, kUnitChannels)),
                  static_cast<unsigned>(CeilDiv(args.num_outputs, kUnitOutputs)));
  kernel<<<grid, static_cast<unsigned>(num_threads), 0, stream>>>(args);
  return LaunchStatus("pack_units");
}

}  // namespace comet::cuda
