// kernels/cuda/sm90_attention.cu
//
// Attention of prefill chunks over the paged KV cache with wgmma.
//
// Mapping  A persistent CTA an SM takes (128 query columns, KV head) after (128 query columns, KV
//          head); a column is one token's head of the KV head's group, so the group shares what is
//          expanded. A producer warpgroup brings pages by bulk copies and expands 128 keys and
//          values at a time to fp16; two consumer warpgroups hold 64 columns each.
// Numerics k = s q + m and v likewise in fp16, one rounding, as an fp16 cache would hold them;
//          weights in fp16; sums in fp32. KV tiles start at multiples of 128 positions and go by
//          from the first, so a column's bits depend on its position and its sequence's cache
//          alone.
// Traffic  4 * head_dim multiply-adds a (column, key): bound by the tensor cores. Expanding 128
//          keys and values of 128 channels takes some 560 instructions of each producer warp
//          beside the 2,048 clocks that their products take at least.
// Limits   sm_90a; otherwise those of attention.h.

#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/cuda/device/ptx_cluster.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/kv_instance.h"
#include "kernels/cuda/sm90_attention.h"
#include "kernels/cuda/sm90_attention_consumer.cuh"
#include "kernels/cuda/sm90_attention_producer.cuh"

namespace comet::sm90 {
namespace {

template <typename Shape>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    PrefillAttentionKernel(const __grid_constant__ cuda::AttentionParams params) {
  extern __shared__ __align__(1024) uint8_t smem_bytes[];
  PrefillSmem<Shape>& smem = *reinterpret_cast<PrefillSmem<Shape>*>(smem_bytes);
  const int thread_idx = static_cast<int>(threadIdx.x);
  const int warp_idx = __shfl_sync(0xffffffffu, thread_idx / kLanes, 0);
  const int group_idx = warp_idx / kGroupWarps;

  cuda::ReleaseNextGrids();
  if (thread_idx == 0) {
    for (int i = 0; i < kTileStages; ++i) {
      ptx::InitBarrier(&smem.k_full[i], kGroupWarps);
      ptx::InitBarrier(&smem.v_full[i], kGroupWarps);
      ptx::InitBarrier(&smem.k_empty[i], kAttentionConsumers * kGroupWarps);
      ptx::InitBarrier(&smem.v_empty[i], kAttentionConsumers * kGroupWarps);
    }
    for (uint64_t& barrier : smem.pages_full) ptx::InitBarrier(&barrier, 1);
    for (int i = 0; i < kItemStages; ++i) {
      ptx::InitBarrier(&smem.items_full[i], 1);
      ptx::InitBarrier(&smem.items_empty[i], (1 + kAttentionConsumers) * kGroupWarps);
    }
    ptx::FenceBarrierInit();
  }
  __syncthreads();
  cuda::WaitForPreviousGrids();

  if (group_idx == 0) {
    ptx::DecreaseRegisters<kProducerRegisters>();
    ProduceTiles<Shape>(params, smem, warp_idx, thread_idx % kLanes);
  } else {
    ptx::IncreaseRegisters<kConsumerRegisters>();
    PrefillConsumer<Shape>(params, smem, group_idx - 1).Run();
  }
}

template <int kHeadDim, int kKeyBits, int kValueBits>
Status LaunchShape(const cuda::AttentionParams& params, cuda::Launcher& launcher) {
  using Shape = PrefillShape<kHeadDim, kKeyBits, kValueBits>;
  // At most one tile of each sequence is not full.
  const int64_t num_columns = int64_t{params.batch.num_tokens} * params.group_heads;
  const int64_t num_items =
      (num_columns / kTileRows + params.batch.num_sequences) * params.num_kv_heads;
  const unsigned num_ctas =
      static_cast<unsigned>(std::min<int64_t>(num_items, launcher.limits().num_sms));
  return launcher.Launch("attention",
                         {.grid = dim3(num_ctas),
                          .num_threads = kAttentionThreads,
                          .smem_bytes = sizeof(PrefillSmem<Shape>)},
                         PrefillAttentionKernel<Shape>, params);
}

}  // namespace

Status PrefillAttention(const cuda::AttentionParams& params, const cuda::KvPageLayout& layout,
                        cuda::Launcher& launcher) {
  return cuda::WithKvInstance(layout, [&]<int kHeadDim, int kKeyBits, int kValueBits> {
    return LaunchShape<kHeadDim, kKeyBits, kValueBits>(params, launcher);
  });
}

}  // namespace comet::sm90
