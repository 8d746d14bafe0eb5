// kernels/cuda/attention.cu
//
// Chooses and launches the instances of attention_kernel.cuh.

#include "kernels/cuda/attention.h"

#include <algorithm>
#include <numbers>

#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"
#include "kernels/cuda/attention_kernel.cuh"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/kv_instance.h"
#include "kernels/cuda/kv_support.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sm90_attention.h"

namespace comet::cuda {
namespace {

constexpr int kDecodeTiles = 1;  // 8 columns: one token's heads.
constexpr int kChunkTiles = 4;   // 32 columns; 64 would spill.
constexpr int kStages = 2;
constexpr int kNoWindow = 1 << 30;  // Past every position.

bool IsAligned(const ConstTensorView& rows) {
  constexpr int kBytes = 8;  // Of a thread's load or store.
  return reinterpret_cast<uintptr_t>(rows.data()) % kBytes == 0 &&
         rows.stride(0) * BytesOf(DType::kF16) % kBytes == 0;
}

Status CheckQueries(const AttentionArgs& args) {
  if (args.q.dtype() != DType::kF16) {
    return Unimplemented(
        StrCat("attention: q is ", ToString(args.q.dtype()), ", expected f16 on a cuda device"));
  }
  const int group_heads = args.num_heads / args.cache.num_kv_heads;
  if (group_heads > kTileColumns) {
    return Unimplemented(StrCat("attention: num_heads is ", group_heads,
                                " times num_kv_heads, expected at most ", kTileColumns,
                                " on a cuda device"));
  }
  if (!IsAligned(args.q) || !IsAligned(args.out)) {
    return Unimplemented(
        "attention: a row of q or out does not start at a multiple of 8 bytes, as a cuda device "
        "needs");
  }
  return Status::Ok();
}

AttentionParams MakeParams(const AttentionArgs& args, WorkCounters* work) {
  const auto group_heads = static_cast<uint32_t>(args.num_heads / args.cache.num_kv_heads);
  return {.q = static_cast<const __half*>(args.q.data()),
          .q_row_stride = args.q.stride(0),
          .out = static_cast<__half*>(args.out.data()),
          .out_row_stride = args.out.stride(0),
          .pages = args.cache.pages.as<uint8_t>(),
          .page_stride = args.cache.pages.stride(0),
          .batch = MakeDeviceBatch(args.batch),
          .pages_max = args.batch.page_table.dim(1),
          .num_kv_heads = args.cache.num_kv_heads,
          .group_heads = static_cast<int>(group_heads),
          .window = args.window == 0 ? kNoWindow : std::min(args.window, kNoWindow),
          .softmax_scale = args.softmax_scale * std::numbers::log2e_v<float>,
          .units = nullptr,
          .units_max = CeilDiv(args.batch.context_length_max, kUnitTokens),
          .split_units = CeilDiv(args.batch.context_length_max, kUnitTokens),
          .work = work,
          .group_magic = CeilDiv(1u << 31, group_heads)};
}

// Shared memory of a CTA, so much that two share an SM instead of three where a third would only
// add to the last of few waves. Tiles of about equal length run in waves; from five on their ends
// mix.
int SmemBytes(int smem_bytes, int64_t num_ctas, const DeviceLimits& limits) {
  constexpr int kMixedWaves = 4;
  const auto num_waves = [&](int ctas_per_sm) {
    return CeilDiv<int64_t>(num_ctas, int64_t{ctas_per_sm} * limits.num_sms);
  };
  const bool prefers_two = num_waves(3) <= kMixedWaves && num_waves(2) * 2 < num_waves(3) * 3;
  return prefers_two ? std::max(smem_bytes, static_cast<int>(limits.smem_bytes_max / 3))
                     : smem_bytes;
}

template <typename Shape>
Status LaunchTiles(const AttentionParams& params, int64_t num_tiles, Launcher& launcher) {
  const dim3 grid(static_cast<unsigned>(num_tiles * params.num_kv_heads),
                  static_cast<unsigned>(CeilDiv(params.units_max, params.split_units)));
  const int smem_bytes = SmemBytes(static_cast<int>(sizeof(AttentionSmem<Shape>)),
                                   int64_t{grid.x} * grid.y, launcher.limits());
  return launcher.Launch("attention",
                         {.grid = grid, .num_threads = kThreads, .smem_bytes = smem_bytes},
                         AttentionKernel<Shape>, params);
}

// Units of a CTA of a split. Where rounding would leave many SMs idle, and below Hopper, two CTAs
// share an SM.
int SplitUnits(int units_max, int num_tiles, const DeviceLimits& limits) {
  const auto split_over = [&](int num_ctas) {
    return CeilDiv(units_max, std::min(units_max, num_ctas / num_tiles));
  };
  const int split_units = split_over(limits.num_sms);
  const int num_ctas = num_tiles * CeilDiv(units_max, split_units);
  return limits.compute_major == 9 && 4 * num_ctas >= 3 * limits.num_sms
             ? split_units
             : split_over(2 * limits.num_sms);
}

// Whole tiles, or, where these would leave half of the SMs idle, units and their fold.
template <typename Shape>
Status LaunchDecode(const AttentionArgs& args, AttentionParams params, Launcher& launcher) {
  const int num_sequences = params.batch.num_sequences;
  const int num_tiles = num_sequences * params.num_kv_heads;
  constexpr int64_t kUnitBytes = sizeof(AttentionState<Shape>) * kThreads;
  const bool is_split =
      2 * num_tiles <= launcher.limits().num_sms && params.units_max > 1 &&
      args.scratch.is_present() &&
      args.scratch.shape().num_elements() >= kUnitBytes * num_tiles * params.units_max;
  const auto launch_tiles = [&] {
    return launcher.limits().compute_major == 9
               ? sm90::DecodeAttention(params, Shape::kLayout, launcher)
               : LaunchTiles<Shape>(params, num_sequences, launcher);
  };
  if (!is_split) return launch_tiles();

  params.split_units = SplitUnits(params.units_max, num_tiles, launcher.limits());
  params.units = static_cast<float*>(args.scratch.data());
  COMET_RETURN_IF_ERROR(launch_tiles());
  return launcher.Launch("attention",
                         {.grid = dim3(static_cast<unsigned>(num_tiles * kFoldWarps<Shape>)),
                          .num_threads = kWarpLanes},
                         FoldUnitsKernel<Shape>, params);
}

template <int kHeadDim, int kKeyBits, int kValueBits>
Status LaunchBits(const AttentionArgs& args, WorkCounters* work, Launcher& launcher) {
  using DecodeShape = AttentionShape<kHeadDim, kKeyBits, kValueBits, kDecodeTiles, kStages>;
  using ChunkShape = AttentionShape<kHeadDim, kKeyBits, kValueBits, kChunkTiles, kStages>;
  const AttentionParams params = MakeParams(args, work);
  const bool has_chunks = args.batch.query_length_max > 1;
  if (!has_chunks || params.batch.num_sequences > 1) {
    COMET_RETURN_IF_ERROR(LaunchDecode<DecodeShape>(args, params, launcher));
  }
  if (!has_chunks) return Status::Ok();
  if (launcher.limits().compute_major == 9) {
    return sm90::PrefillAttention(params, DecodeShape::kLayout, launcher);
  }
  // At most one tile of each sequence is not full.
  const int64_t num_columns = int64_t{args.batch.num_tokens} * params.group_heads;
  return LaunchTiles<ChunkShape>(
      params, num_columns / ChunkShape::kColumns + params.batch.num_sequences, launcher);
}

}  // namespace

int64_t AttentionScratchBytes(int num_sms, int context_length_max, int head_dim) {
  const auto unit_bytes = [&]<int kHeadDim>() -> int64_t {
    using Shape = AttentionShape<kHeadDim, 4, 4, kDecodeTiles, kStages>;
    return sizeof(AttentionState<Shape>) * kThreads;
  };
  const int64_t bytes =
      head_dim == 64 ? unit_bytes.template operator()<64>() : unit_bytes.template operator()<128>();
  return bytes * (num_sms / 2) * CeilDiv(context_length_max, kUnitTokens);
}

int64_t AttentionWorkBytes() { return sizeof(WorkCounters); }

Status Attention(const AttentionArgs& args, void* work, Launcher& launcher) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.batch.num_tokens == 0) return Status::Ok();
  const KvCacheView& cache = args.cache;
  COMET_RETURN_IF_ERROR(CheckKvKernels("attention", cache));
  COMET_RETURN_IF_ERROR(
      Validate("attention", cache, KvPageBytes(cache.format, cache.num_kv_heads, cache.head_dim)));
  COMET_RETURN_IF_ERROR(CheckQueries(args));
  auto* counters = static_cast<WorkCounters*>(work);
  const KvPageLayout layout{cache.head_dim, cache.format.k_bits, cache.format.v_bits};
  return WithKvInstance(layout, [&]<int kHeadDim, int kKeyBits, int kValueBits> {
    return LaunchBits<kHeadDim, kKeyBits, kValueBits>(args, counters, launcher);
  });
}

}  // namespace comet::cuda
