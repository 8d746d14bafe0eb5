#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/sm90_gemm_choice.h"

namespace comet::sm90 {

// The kernel's argument; names as in kernels/ops/linear.h.
struct GemmParams {
  CUtensorMap codes;    // [num_tokens, K], box [tile_tokens, 128].
  CUtensorMap y_boxes;  // y, rows of bytes, box [box_tokens, 128]; where stores_boxes.
  const uint8_t* units;
  const float* weight_scale;
  const float* token_scale;
  const int32_t* exponent;
  const int2* code_sum;
  const float* bias;     // Null where absent.
  const void* residual;  // Null where absent.
  void* y;
  int64_t residual_row_stride;
  int64_t y_row_stride;
  int num_tokens;
  int num_outputs;
  int num_unit_rows;
  int num_int8_blocks;
  int num_int4_blocks;
  bool is_half;       // y and residual are f16, else f32.
  bool stores_boxes;  // y is f16, leaves in boxes, and its rows are aligned for them.
  bool stores_pairs;  // Two neighbouring outputs of y and residual can be one access.
};

// One kernel of kGemmConfigs. `prepare` is called once a device, before any launch.
struct GemmInstance {
  GemmConfig config;
  cudaError_t (*prepare)();
  cudaError_t (*launch)(const GemmParams& params, int num_sms, cudaStream_t stream);
};

// The kernel of config kGemmConfigs[kIdx]; instances/ holds the definitions.
template <int kIdx>
GemmInstance MakeGemmInstance();

}  // namespace comet::sm90
