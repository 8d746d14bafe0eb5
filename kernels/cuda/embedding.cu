// Mapping  One CTA per token, eight neighbouring channels a thread at a time.
// Traffic  num_tokens * hidden_size * (bytes of the table's element + bytes of out's).
// Limits   16-byte instructions where out's rows are aligned to 16 bytes, as the table's are, and
//          hidden_size is a multiple of 8.

#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_launch.h"
#include "kernels/cuda/row_ops.h"

namespace comet::cuda {
namespace {

constexpr int kThreads = 256;

struct EmbeddingParams {
  void* out;
  int64_t out_row_stride;
  const int32_t* ids;
  const int32_t* sampled;
  int num_sampled;
  const void* table;
  int64_t table_row_stride;
  const float* scale;  // Null but for an INT8 table.
  int vocab_size;
  int hidden_size;
};

template <typename T, typename TableT, bool kVectors>
__global__ void __launch_bounds__(kThreads)
    EmbeddingKernel(const __grid_constant__ EmbeddingParams params) {
  const int64_t token_idx = blockIdx.x;
  T* const out_row = static_cast<T*>(params.out) + token_idx * params.out_row_stride;

  ReleaseNextGrids();
  WaitForPreviousGrids();
  int id = params.ids[token_idx];
  if (id < 0 && -1 - id < params.num_sampled) id = max(params.sampled[-1 - id], 0);
  if (id < 0 || id >= params.vocab_size) __trap();  // The caller's bug, as COMET_CHECK on a host.
  const TableT* const table_row =
      static_cast<const TableT*>(params.table) + id * params.table_row_stride;
  const float scale = params.scale != nullptr ? params.scale[id] : 1.0f;
  for (int h = kChunk * static_cast<int>(threadIdx.x); h < params.hidden_size;
       h += kChunk * kThreads) {
    float x[kChunk];
    LoadFloats<kVectors>(x, table_row, h, params.hidden_size);
    if constexpr (sizeof(TableT) == 1) {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) x[i] = scale * x[i];
    }
    StoreFloats<kVectors>(x, out_row, h, params.hidden_size);
  }
}

template <typename T, typename TableT>
Status LaunchEmbedding(const EmbeddingArgs& args, const RowWeights& table, Launcher& launcher) {
  const EmbeddingParams params{
      .out = args.out.data(),
      .out_row_stride = args.out.stride(0),
      .ids = args.ids.as<int32_t>(),
      .sampled = args.sampled.is_present() ? args.sampled.as<int32_t>() : nullptr,
      .num_sampled = args.sampled.is_present() ? args.sampled.dim(0) : 0,
      .table = table.rows().data(),
      .table_row_stride = table.rows().stride(0),
      .scale = table.scale(),
      .vocab_size = table.num_outputs(),
      .hidden_size = table.num_inputs()};
  const bool has_vectors = params.hidden_size % kChunk == 0 && HasAlignedRows(args.out, 16);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(args.ids.dim(0))),
                          .num_threads = kThreads};
  return launcher.Launch(
      "embedding", shape,
      has_vectors ? EmbeddingKernel<T, TableT, true> : EmbeddingKernel<T, TableT, false>, params);
}

template <typename T>
Status LaunchEmbedding(const EmbeddingArgs& args, const RowWeights& table, Launcher& launcher) {
  switch (table.rows().dtype()) {
    case DType::kI8: return LaunchEmbedding<T, int8_t>(args, table, launcher);
    case DType::kF16: return LaunchEmbedding<T, __half>(args, table, launcher);
    case DType::kBf16: return LaunchEmbedding<T, __nv_bfloat16>(args, table, launcher);
    case DType::kF32: return LaunchEmbedding<T, float>(args, table, launcher);
    case DType::kI32:
    case DType::kU8: break;
  }
  COMET_CHECK_MSG(false, "not a dtype of a table");
}

}  // namespace

Status Embedding(const EmbeddingArgs& args, Launcher& launcher) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.ids.dim(0) == 0 || args.table->num_inputs() == 0) return Status::Ok();
  const auto* table = dynamic_cast<const RowWeights*>(args.table);
  COMET_CHECK_MSG(table != nullptr, "the table was packed by another back end");
  return args.out.dtype() == DType::kF16 ? LaunchEmbedding<__half>(args, *table, launcher)
                                         : LaunchEmbedding<float>(args, *table, launcher);
}

}  // namespace comet::cuda
