#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/base/status.h"

// The elements of a RandomLinear (kernels/ops/random_linear.h) in device memory. Rows are those
// from `first_row` on of a matrix of `num_columns`; each begins at a multiple of `row_stride`
// elements, which is at least num_columns, and what lies between rows is zeroed.
namespace comet::cuda {

struct RandomRows {
  uint64_t seed = 0;  // Of the RandomLinear.
  int64_t first_row = 0;
  int num_rows = 0;
  int num_columns = 0;
  int64_t row_stride = 0;
};

Status FillRandomCodePairs(uint8_t* out, const RandomRows& rows, cudaStream_t stream);
Status FillRandomSteps(int8_t* out, const RandomRows& rows, cudaStream_t stream);
Status FillRandomInt8Codes(int8_t* out, const RandomRows& rows, cudaStream_t stream);
// f16, as its bits.
Status FillRandomHalfs(uint16_t* out, const RandomRows& rows, cudaStream_t stream);
// One row: of num_columns scales, zeros to row_stride.
Status FillRandomScales(float* out, const RandomRows& rows, float unit, cudaStream_t stream);

}  // namespace comet::cuda
