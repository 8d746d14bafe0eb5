#pragma once

#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/float_gemm.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/row_kernels.h"

namespace comet::cpu {

// The table of one instruction set: the shared templates over its Simd type, and its own integer
// products.
template <typename Simd, typename IntegerGemm>
constexpr KernelTable MakeKernelTable() {
  using Rows = RowKernels<Simd>;
  return {.name = Simd::kName,
          .half_to_float = Rows::HalfToFloat,
          .float_to_half = Rows::FloatToHalf,
          .sum_squares = Rows::SumSquares,
          .scale_row = Rows::ScaleRow,
          .silu_mul = Rows::SiluMul,
          .quantize_row = Rows::Quantize,
          .stage_codes = Rows::StageCodes,
          .w4_tile = IntegerGemm::W4Tile,
          .int8_tile = IntegerGemm::Int8Tile,
          .float_tile = FloatGemm<Simd>::Tile,
          .finish_tile = Rows::Finish,
          .attend = AttentionKernel<Simd>::Attend,
          .count_nonfinite = Rows::CountNonFinite,
          .max_value = Rows::MaxValue,
          .exp_below = Rows::ExpBelow,
          .sum_lanes = Rows::SumLanes,
          .divide = Rows::Divide};
}

}  // namespace comet::cpu
