#pragma once

#include <array>

namespace comet::sm80 {

// How one CTA of the product works: row_warps x token_warps warps share a tile and a ring of
// stages; k_groups such sets take turns at the tile's blocks and add their sums at its end.
struct GemmConfig {
  int row_warps = 1;    // A warp has 64 outputs
  int token_warps = 1;  // and
  int warp_tokens = 8;  // so many tokens.
  int k_groups = 1;
  int num_stages = 4;
  int ctas_per_sm = 1;  // Where shared memory allows; two hide each other's latencies.

  constexpr int tile_outputs() const { return 64 * row_warps; }
  constexpr int tile_tokens() const { return token_warps * warp_tokens; }
  constexpr int group_threads() const { return 32 * row_warps * token_warps; }
  constexpr int num_threads() const { return group_threads() * k_groups; }
  friend constexpr bool operator==(const GemmConfig&, const GemmConfig&) = default;
};

// Every config there is a kernel for, by tile_tokens. As many CTAs as a multiprocessor of an A100
// holds; a CTA's stages fit the 99 KB that it can have on every card from sm_80 on.
inline constexpr std::array kGemmConfigs = {
    GemmConfig{.warp_tokens = 8, .k_groups = 4, .num_stages = 5},
    GemmConfig{.warp_tokens = 16, .k_groups = 4, .num_stages = 4},
    GemmConfig{.warp_tokens = 32, .k_groups = 4, .num_stages = 3},
    GemmConfig{
        .token_warps = 2, .warp_tokens = 32, .k_groups = 2, .num_stages = 3, .ctas_per_sm = 2},
    GemmConfig{
        .row_warps = 2, .token_warps = 2, .warp_tokens = 32, .num_stages = 4, .ctas_per_sm = 3},
    GemmConfig{
        .row_warps = 2, .token_warps = 2, .warp_tokens = 64, .num_stages = 4, .ctas_per_sm = 2},
    GemmConfig{.row_warps = 2, .token_warps = 4, .warp_tokens = 64, .num_stages = 4},
};

}  // namespace comet::sm80
