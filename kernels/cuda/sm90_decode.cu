// kernels/cuda/sm90_decode.cu
//
// Chooses and launches the instances of sm90_decode_kernel.cuh.

#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/cuda/kv_instance.h"
#include "kernels/cuda/sm90_attention.h"
#include "kernels/cuda/sm90_decode_kernel.cuh"

namespace comet::sm90 {
namespace {

// Of the pages that an SM's CTA or two ask for ahead: more would lengthen the tail, in which an SM
// computes what arrived last.
constexpr int64_t kBytesAheadOfOne = 105 << 10;
constexpr int64_t kBytesAheadOfTwo = 140 << 10;
constexpr int kStagesMin = 2;

struct DecodeGrid {
  int ctas_per_sm = 1;
  int num_stages = kStagesMin;
};

// A CTA an SM where there is no more than one item for each, so that it has all the stages.
template <typename Shape>
DecodeGrid ChooseGrid(int64_t num_items, const cuda::DeviceLimits& limits) {
  constexpr int64_t kReservedBytes = 1024;  // Of an SM's shared memory, a CTA.
  constexpr int64_t kStageBytes = sizeof(cuda::GroupStage<Shape>);
  const auto num_fitting = [&](int64_t smem_bytes) {
    return (limits.smem_bytes_max + kReservedBytes) / (smem_bytes + kReservedBytes);
  };
  DecodeGrid grid;
  if (num_items > limits.num_sms) {
    grid.ctas_per_sm = static_cast<int>(std::clamp<int64_t>(
        num_fitting(cuda::DecodeSmemBytes<Shape>(kStagesMin)), 1, cuda::kDecodeCtasPerSm));
  }
  const int64_t num_stages =
      grid.ctas_per_sm == 1 ? kBytesAheadOfOne / kStageBytes : kBytesAheadOfTwo / (2 * kStageBytes);
  grid.num_stages =
      static_cast<int>(std::clamp<int64_t>(num_stages, kStagesMin, cuda::kDecodeStagesMax));
  return grid;
}

template <int kHeadDim, int kKeyBits, int kValueBits>
Status LaunchShape(const cuda::AttentionParams& params, cuda::Launcher& launcher) {
  using Shape = cuda::AttentionShape<kHeadDim, kKeyBits, kValueBits, 1, kStagesMin>;
  const int num_splits = CeilDiv(params.units_max, params.split_units);
  const int64_t num_items = int64_t{params.batch.num_sequences} * params.num_kv_heads * num_splits;
  const cuda::DeviceLimits& limits = launcher.limits();
  const DecodeGrid grid = ChooseGrid<Shape>(num_items, limits);
  const int64_t num_ctas = std::min<int64_t>(num_items, limits.num_sms * grid.ctas_per_sm);
  return launcher.Launch("attention",
                         {.grid = dim3(static_cast<unsigned>(num_ctas)),
                          .num_threads = cuda::kDecodeThreads,
                          .smem_bytes = cuda::DecodeSmemBytes<Shape>(grid.num_stages)},
                         cuda::DecodeKernel<Shape>, params, grid.num_stages);
}

}  // namespace

Status DecodeAttention(const cuda::AttentionParams& params, const cuda::KvPageLayout& layout,
                       cuda::Launcher& launcher) {
  return cuda::WithKvInstance(layout, [&]<int kHeadDim, int kKeyBits, int kValueBits> {
    return LaunchShape<kHeadDim, kKeyBits, kValueBits>(params, launcher);
  });
}

}  // namespace comet::sm90
