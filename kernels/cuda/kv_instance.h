#pragma once

#include "kernels/cuda/kv_page_layout.cuh"

namespace comet::cuda {

// Calls launch.template operator()<head_dim, bits of keys, bits of values>(), of those that
// CheckKvKernels() lets pass.
template <int kHeadDim, typename Launch>
auto WithKvBits(const KvPageLayout& layout, const Launch& launch) {
  if (layout.k_bits == 4) return launch.template operator()<kHeadDim, 4, 4>();
  if (layout.v_bits == 4) return launch.template operator()<kHeadDim, 8, 4>();
  return launch.template operator()<kHeadDim, 8, 8>();
}

template <typename Launch>
auto WithKvInstance(const KvPageLayout& layout, const Launch& launch) {
  return layout.head_dim == 64 ? WithKvBits<64>(layout, launch) : WithKvBits<128>(layout, launch);
}

}  // namespace comet::cuda
