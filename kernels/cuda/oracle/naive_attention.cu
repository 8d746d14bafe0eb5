// Mapping  A CTA per (token row, head). One thread per logit, then one per channel of the output.
// Traffic  Beside the point: it is written to be read.

#include "kernels/cuda/oracle/naive_attention.h"

#include <cuda_fp16.h>

#include "kernels/cuda/batch_search.cuh"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/kv_page_layout.cuh"

namespace comet::cuda {
namespace {

constexpr int kThreads = 128;

struct NaiveParams {
  const __half* q;
  int64_t q_row_stride;
  __half* out;
  int64_t out_row_stride;
  const uint8_t* pages;
  int64_t page_stride;
  KvPageLayout layout;
  DeviceBatch batch;
  int num_heads;
  int num_kv_heads;
  float softmax_scale;
  int window;     // 0: none.
  float* logits;  // [num_tokens, num_heads, positions_max]
  int positions_max;
};

// One element of the cache: s * q + m.
__device__ double CachedAt(const NaiveParams& params, int sequence_idx, int kv_head_idx,
                           int position, int channel, bool is_key) {
  const KvPageLayout& layout = params.layout;
  const int token_idx = position % kPageTokens;
  const int page_id = params.batch.PageId(sequence_idx, position / kPageTokens);
  const uint8_t* head =
      params.pages + page_id * params.page_stride + int64_t{kv_head_idx} * layout.head_bytes();
  const uint8_t* codes = head + (is_key ? 0 : layout.v_code_offset());
  const uint8_t* scales = head + (is_key ? layout.k_scale_offset() : layout.v_scale_offset());
  const int bits = is_key ? layout.k_bits : layout.v_bits;
  const CodePlace place = is_key ? KeyCodePlace(layout, token_idx, channel)
                                 : ValueCodePlace(layout, token_idx, channel);
  const int code = codes[place.byte] >> place.shift & ((1 << bits) - 1);
  const __half* pair = reinterpret_cast<const __half*>(scales + ScalePlace(token_idx));
  return static_cast<double>(__half2float(pair[0])) * code + __half2float(pair[1]);
}

__global__ void NaiveAttentionKernel(const __grid_constant__ NaiveParams params) {
  const int row = static_cast<int>(blockIdx.x);
  const int head_idx = static_cast<int>(blockIdx.y);
  const int kv_head_idx = head_idx / (params.num_heads / params.num_kv_heads);
  const int head_dim = params.layout.head_dim;
  const TokenPlace token = FindToken(params.batch, row);
  const int first = params.window == 0 ? 0 : max(0, token.position + 1 - params.window);
  const __half* q = params.q + row * params.q_row_stride + head_idx * head_dim;
  float* logits =
      params.logits + (int64_t{row} * params.num_heads + head_idx) * params.positions_max;

  for (int p = first + static_cast<int>(threadIdx.x); p <= token.position; p += kThreads) {
    double dot = 0;
    for (int d = 0; d < head_dim; ++d) {
      dot += __half2float(q[d]) *
             CachedAt(params, token.sequence_idx, kv_head_idx, p, d, /*is_key=*/true);
    }
    logits[p] = static_cast<float>(dot * params.softmax_scale);
  }
  __syncthreads();

  for (int d = static_cast<int>(threadIdx.x); d < head_dim; d += kThreads) {
    double max = logits[first];
    for (int p = first; p <= token.position; ++p) max = fmax(max, logits[p]);
    double sum = 0;
    double out = 0;
    for (int p = first; p <= token.position; ++p) {
      const double weight = exp(logits[p] - max);
      sum += weight;
      out += weight * CachedAt(params, token.sequence_idx, kv_head_idx, p, d, /*is_key=*/false);
    }
    params.out[row * params.out_row_stride + head_idx * head_dim + d] =
        __float2half_rn(static_cast<float>(out / sum));
  }
}

}  // namespace

Status NaiveAttention(CudaDevice& device, const AttentionArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.batch.num_tokens == 0) return Status::Ok();
  const int positions_max = args.batch.context_length_max;
  COMET_ASSIGN_OR_RETURN(
      const DeviceBuffer logits,
      device.Allocate(int64_t{args.batch.num_tokens} * args.num_heads * positions_max * 4));
  const KvFormat& format = args.cache.format;
  const NaiveParams params{.q = static_cast<const __half*>(args.q.data()),
                           .q_row_stride = args.q.stride(0),
                           .out = static_cast<__half*>(args.out.data()),
                           .out_row_stride = args.out.stride(0),
                           .pages = args.cache.pages.as<uint8_t>(),
                           .page_stride = args.cache.pages.stride(0),
                           .layout = {args.cache.head_dim, format.k_bits, format.v_bits},
                           .batch = MakeDeviceBatch(args.batch),
                           .num_heads = args.num_heads,
                           .num_kv_heads = args.cache.num_kv_heads,
                           .softmax_scale = args.softmax_scale,
                           .window = args.window,
                           .logits = static_cast<float*>(logits.data()),
                           .positions_max = positions_max};
  COMET_RETURN_IF_ERROR(device.MakeCurrent());
  const dim3 grid(static_cast<unsigned>(args.batch.num_tokens),
                  static_cast<unsigned>(args.num_heads));
  NaiveAttentionKernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(device.stream().handle())>>>(
      params);
  COMET_RETURN_IF_ERROR(LaunchStatus("naive_attention"));
  return device.Synchronize();  // The logits go.
}

}  // namespace comet::cuda
