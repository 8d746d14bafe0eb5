#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/sm80_gemm_config.h"
#include "kernels/cuda/work_splitter.h"

namespace comet::sm80 {

inline constexpr int kSlots = 3;  // Of a CTA: for two tiles that it shares and one that it stores.

// The kernel's argument; names as in kernels/ops/linear.h.
struct GemmParams {
  const uint8_t* units;
  const float* weight_scale;
  const int8_t* codes;
  const float* token_scale;
  const int32_t* exponent;
  const int2* code_sum;
  const float* bias;     // Null where absent.
  const void* residual;  // Null where absent.
  void* y;
  // Sums so far of each split tile, in pairs; zeros between launches.
  unsigned long long* partials;
  int4* slots;        // kSlots tiles' sums a CTA.
  int32_t* progress;  // Blocks done of each split tile; zeros between launches.
  int64_t codes_row_stride;
  uint32_t codes_copy_stride;  // Between the rows of codes that a thread copies.
  int64_t residual_row_stride;
  int64_t y_row_stride;
  int num_tokens;
  int num_outputs;
  int num_inputs;
  int num_int8_blocks;
  int num_int4_blocks;
  int num_unit_rows;
  int num_token_tiles;
  uint32_t token_tiles_inverse;  // CeilDiv(2^32, num_token_tiles) where that is above 1.
  uint32_t sign_bits;            // 0x08080808, which flips codes from v to v + 8; as an argument it
                                 // is one operand of an instruction with a constant beside it.
  int pair_exponent_max;         // Of tokens whose sums are added two to a word; see FitsPairs().
  bool is_half;                  // y and residual are f16, else f32.
  bool stores_vectors;  // Eight neighbouring outputs of y and residual are aligned in every row.
  WorkSplit split;
};

// One kernel. `prepare` is called once a device, before any launch.
struct GemmInstance {
  GemmConfig config;
  cudaError_t (*prepare)();
  cudaError_t (*launch)(const GemmParams& params, cudaStream_t stream);
  int partial_sums;  // A tile's in `partials` and
  int slot_sums;     // in a slot.
};

// The kernel of kGemmConfigs[kIdx], for codes that are bytes in both regions or that are packed in
// the INT4 region; instances/ holds the definitions.
template <int kIdx, bool kIsPacked>
GemmInstance MakeGemmInstance();

}  // namespace comet::sm80
