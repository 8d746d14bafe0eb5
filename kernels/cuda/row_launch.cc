#include "kernels/cuda/row_launch.h"

#include <algorithm>

namespace comet::cuda {

RowOutputParams MakeRowOutputParams(const LinearInput& out) {
  RowOutputParams params;
  params.num_channels = out.num_channels();
  params.num_int4 = out.format.num_int4_channels;
  if (out.format.mode == ActivationMode::kFloat) {
    params.values = out.values.data();
    params.row_stride = out.values.stride(0);
    params.is_f16 = out.values.dtype() == DType::kF16;
    params.has_vector_stores = params.num_channels % kChunk == 0 && HasAlignedRows(out.values, 16);
    return params;
  }
  const bool is_mixed = out.format.mode == ActivationMode::kMixed;
  params.codes = out.codes.as<int8_t>();
  params.scale = out.scale.as<float>();
  params.exponent = out.exponent.as<int32_t>();
  params.code_sum = out.code_sum.as<int32_t>();
  params.row_stride = out.codes.stride(0);
  params.exponent_max = out.format.exponent_max;
  params.clip = is_mixed ? out.format.clip : 1.0f;
  params.int4_limit = is_mixed ? 7.0f : 127.0f;
  params.packs_int4 = out.format.packs_int4;
  params.has_vector_stores = params.num_channels % kChunk == 0 && HasAlignedRows(out.codes, kChunk);
  return params;
}

int RowThreads(int num_rows, int num_sms) {
  constexpr int kThreadsForLatency = 512;
  constexpr int kThreadsForBandwidth = 256;
  return num_rows <= 2 * num_sms ? kThreadsForLatency : kThreadsForBandwidth;
}

int64_t SpreadSmemBytes(int num_ctas, int64_t smem_bytes, const DeviceLimits& limits) {
  constexpr int64_t kReservedBytes = 2048;  // Of each CTA: by the system and for what is static.
  const int64_t share = limits.smem_bytes_max / CeilDiv(num_ctas, limits.num_sms) - kReservedBytes;
  return std::max(smem_bytes, share);
}

int WalkRowThreads(int num_channels) {
  constexpr int kThreadChannels = 32;
  if (num_channels <= 128 * kThreadChannels) return 128;
  return num_channels <= 256 * kThreadChannels ? 256 : 0;
}

}  // namespace comet::cuda
