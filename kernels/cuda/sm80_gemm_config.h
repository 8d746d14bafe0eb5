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
  int smem_kb = 99;     // A CTA's at most: 99 on every card from sm_80 on, 163 on sm_80 itself.

  constexpr int tile_outputs() const { return 64 * row_warps; }
  constexpr int tile_tokens() const { return token_warps * warp_tokens; }
  constexpr int group_threads() const { return 32 * row_warps * token_warps; }
  // Where four sets take turns, one more adds up their sums, exchanges and stores them, while they
  // go on to the next piece.
  constexpr bool has_finisher() const { return k_groups == 4; }
  constexpr int num_threads() const { return group_threads() * (k_groups + has_finisher()); }
  // Whether the loop is that of sm80_gemm_wide.cuh.
  constexpr bool is_wide() const { return warp_tokens == 64 && k_groups == 1; }
  // How the sums of a tile that CTAs share meet in L2: added to zeros as they come, so that the
  // last to come reads them once, however many the pieces; or, as a tile with more sums has few
  // pieces and the additions take longer, each piece's in a place of its own.
  constexpr bool adds_in_memory() const { return tile_outputs() * tile_tokens() <= 128 * 96; }
  friend constexpr bool operator==(const GemmConfig&, const GemmConfig&) = default;
};

// Every config there is a kernel for, by tile_tokens. As many CTAs as a multiprocessor of an A100
// holds.
inline constexpr std::array kGemmConfigs = {
    GemmConfig{.warp_tokens = 8, .k_groups = 4, .num_stages = 6, .smem_kb = 163},
    GemmConfig{.warp_tokens = 16, .k_groups = 4, .num_stages = 4},
    GemmConfig{.warp_tokens = 16, .k_groups = 4, .num_stages = 6, .smem_kb = 163},
    GemmConfig{
        .token_warps = 2, .warp_tokens = 32, .k_groups = 2, .num_stages = 4, .ctas_per_sm = 2},
    GemmConfig{.token_warps = 2, .warp_tokens = 32, .k_groups = 4, .num_stages = 4, .smem_kb = 163},
    GemmConfig{
        .row_warps = 2, .token_warps = 2, .warp_tokens = 32, .num_stages = 4, .ctas_per_sm = 3},
    GemmConfig{.row_warps = 2,
               .token_warps = 2,
               .warp_tokens = 48,
               .k_groups = 2,
               .num_stages = 5,
               .smem_kb = 163},
    GemmConfig{
        .row_warps = 2, .token_warps = 2, .warp_tokens = 64, .num_stages = 4, .ctas_per_sm = 2},
    GemmConfig{.row_warps = 2, .token_warps = 4, .warp_tokens = 64, .num_stages = 4},
};

}  // namespace comet::sm80
