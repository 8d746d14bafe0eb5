#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/base/status.h"

namespace comet::sm90 {

// Whole rows of units to be made of rows of a checkpoint, all in device memory.
struct PackArgs {
  uint8_t* units = nullptr;        // [CeilDiv(num_outputs, 64) * num_blocks, kUnitBytes]
  const uint8_t* codes = nullptr;  // [num_outputs, num_inputs / 2], as W4axWeights
  const int8_t* steps = nullptr;   // [num_outputs, num_blocks]
  int num_outputs = 0;             // Rows; the last unit's missing ones have steps 0.
  int num_inputs = 0;
  int num_int4_channels = 0;
};

// Issues the re-layout of sm90_w4ax_layout.h on the stream. Errors: those of the launch.
Status PackUnits(const PackArgs& args, cudaStream_t stream);

}  // namespace comet::sm90
