// kernels/cuda/sm90_decode.cu
//
// Chooses and launches the instances of sm90_decode_kernel.cuh.

#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/cuda/sm90_attention.h"
#include "kernels/cuda/sm90_decode_kernel.cuh"

namespace comet::sm90 {
namespace {

constexpr int kStages = 2;

template <int kHeadDim, int kKeyBits, int kValueBits>
Status LaunchShape(const cuda::AttentionParams& params, const cuda::DeviceLimits& limits,
                   cudaStream_t stream) {
  using Shape = cuda::AttentionShape<kHeadDim, kKeyBits, kValueBits, 1, kStages>;
  constexpr int64_t kReservedBytes = 1024;  // Of an SM's shared memory, a CTA.
  constexpr int64_t kSmemBytes = sizeof(cuda::DecodeSmem<Shape>);
  const int num_splits = CeilDiv(params.units_max, params.split_units);
  const int64_t num_items = int64_t{params.batch.num_sequences} * params.num_kv_heads * num_splits;
  const int64_t num_fitting =
      (limits.smem_bytes_max + kReservedBytes) / (kSmemBytes + kReservedBytes);
  const int64_t num_resident =
      limits.num_sms * std::clamp<int64_t>(num_fitting, 1, cuda::DecodeCtasPerSm(kHeadDim));
  return cuda::Launch("attention", limits,
                      {.grid = dim3(static_cast<unsigned>(std::min(num_items, num_resident))),
                       .num_threads = cuda::kDecodeThreads,
                       .smem_bytes = kSmemBytes},
                      stream, cuda::DecodeKernel<Shape>, params);
}

template <int kHeadDim>
Status LaunchFormat(const cuda::AttentionParams& params, const cuda::KvPageLayout& layout,
                    const cuda::DeviceLimits& limits, cudaStream_t stream) {
  if (layout.k_bits == 4) return LaunchShape<kHeadDim, 4, 4>(params, limits, stream);
  if (layout.v_bits == 4) return LaunchShape<kHeadDim, 8, 4>(params, limits, stream);
  return LaunchShape<kHeadDim, 8, 8>(params, limits, stream);
}

}  // namespace

Status DecodeAttention(const cuda::AttentionParams& params, const cuda::KvPageLayout& layout,
                       const cuda::DeviceLimits& limits, cudaStream_t stream) {
  return layout.head_dim == 64 ? LaunchFormat<64>(params, layout, limits, stream)
                               : LaunchFormat<128>(params, layout, limits, stream);
}

}  // namespace comet::sm90
