#pragma once

#include <array>
#include <cstdint>

namespace comet::sm90 {

// How one CTA of the Hopper product works. A warpgroup multiplies 64 outputs; row_groups x k_groups
// of them share a CTA: row groups have outputs of their own, k groups take turns at the blocks of
// the same outputs and add their sums at the end.
struct GemmConfig {
  int row_groups = 1;   // The CTA's tile has 64 * row_groups outputs
  int tile_tokens = 8;  // and this many tokens.
  int k_groups = 1;
  int cluster_k = 1;  // CTAs that split the blocks of one tile, as a cluster.

  constexpr int num_warpgroups() const { return row_groups * k_groups; }
  constexpr int tile_outputs() const { return 64 * row_groups; }
  // Tokens of the boxes in which a tile's f16 results leave shared memory; 0: they leave registers.
  constexpr int box_tokens() const {
    return tile_tokens < 96 || k_groups * cluster_k > 1 ? 0 : row_groups == 3 ? 16 : 32;
  }
  friend constexpr bool operator==(const GemmConfig&, const GemmConfig&) = default;
};

// Every config there is a kernel for.
inline constexpr std::array kGemmConfigs = {
    GemmConfig{.row_groups = 1, .tile_tokens = 8, .k_groups = 4},
    GemmConfig{.row_groups = 1, .tile_tokens = 16, .k_groups = 4},
    GemmConfig{.row_groups = 1, .tile_tokens = 16, .k_groups = 4, .cluster_k = 2},
    GemmConfig{.row_groups = 1, .tile_tokens = 32, .k_groups = 4, .cluster_k = 2},
    GemmConfig{.row_groups = 1, .tile_tokens = 16, .k_groups = 2},
    GemmConfig{.row_groups = 1, .tile_tokens = 32, .k_groups = 2},
    GemmConfig{.row_groups = 1, .tile_tokens = 64, .k_groups = 2},
    GemmConfig{.row_groups = 1, .tile_tokens = 64, .k_groups = 2, .cluster_k = 2},
    GemmConfig{.row_groups = 2, .tile_tokens = 8, .k_groups = 2},
    GemmConfig{.row_groups = 2, .tile_tokens = 16, .k_groups = 2},
    GemmConfig{.row_groups = 2, .tile_tokens = 32, .k_groups = 2},
    GemmConfig{.row_groups = 2, .tile_tokens = 64, .k_groups = 2},
    GemmConfig{.row_groups = 2, .tile_tokens = 64},
    GemmConfig{.row_groups = 2, .tile_tokens = 96},
    GemmConfig{.row_groups = 2, .tile_tokens = 128},
    GemmConfig{.row_groups = 2, .tile_tokens = 256},
    GemmConfig{.row_groups = 2, .tile_tokens = 128, .cluster_k = 2},
    GemmConfig{.row_groups = 3, .tile_tokens = 16},
    GemmConfig{.row_groups = 3, .tile_tokens = 32},
    GemmConfig{.row_groups = 3, .tile_tokens = 64},
    GemmConfig{.row_groups = 3, .tile_tokens = 128},
};

struct GemmShape {
  int num_tokens = 0;   // M
  int num_outputs = 0;  // N
  int num_inputs = 0;   // K
};

// The config expected to be fastest on a card with `num_sms` multiprocessors. Pure; depends on
// nothing but its arguments, so a captured graph and a direct call agree.
GemmConfig ChooseGemmConfig(const GemmShape& shape, int num_sms);

}  // namespace comet::sm90
