#include "kernels/cuda/gemm_choice.h"

namespace comet::sm90 {

GemmConfig ChooseGemmConfig(const GemmShape& shape, int) {
  if (shape.num_tokens <= 8) return {.row_groups = 1, .tile_tokens = 8, .k_groups = 4};
  if (shape.num_tokens <= 16) return {.row_groups = 1, .tile_tokens = 16, .k_groups = 4};
  if (shape.num_tokens <= 32) return {.row_groups = 1, .tile_tokens = 32, .k_groups = 4};
  if (shape.num_tokens <= 64) return {.row_groups = 1, .tile_tokens = 64, .k_groups = 2};
  if (shape.num_tokens <= 128) return {.row_groups = 2, .tile_tokens = 128};
  return {.row_groups = 2, .tile_tokens = 256};
}

}  // namespace comet::sm90
