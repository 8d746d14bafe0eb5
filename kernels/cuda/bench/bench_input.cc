#include "kernels/cuda/bench/bench_input.h"

#include "kernels/cuda/bench/random_fill.h"

namespace comet::cuda {

Result<BenchInput> BenchInput::Allocate(CudaDevice& device, const ActivationFormat& format,
                                        int num_tokens_max, int num_channels) {
  BenchInput input;
  input.format_ = format;
  input.num_channels_ = num_channels;
  const int64_t scalar_bytes = int64_t{num_tokens_max} * 4;
  COMET_ASSIGN_OR_RETURN(input.codes_, device.Allocate(int64_t{num_tokens_max} * num_channels));
  COMET_ASSIGN_OR_RETURN(input.scale_, device.Allocate(scalar_bytes));
  COMET_ASSIGN_OR_RETURN(input.exponent_, device.Allocate(scalar_bytes));
  COMET_ASSIGN_OR_RETURN(input.code_sum_, device.Allocate(2 * scalar_bytes));
  return input;
}

Result<BenchInput> BenchInput::Create(CudaDevice& device, Ops& ops, const ActivationFormat& format,
                                      int num_tokens_max, int num_channels) {
  COMET_ASSIGN_OR_RETURN(BenchInput input, Allocate(device, format, num_tokens_max, num_channels));
  const int64_t num_bytes = int64_t{num_tokens_max} * num_channels * BytesOf(DType::kF16);
  COMET_ASSIGN_OR_RETURN(const DeviceBuffer x, device.Allocate(num_bytes));
  COMET_RETURN_IF_ERROR(FillRandom(device, x.data(), num_bytes, FillKind::kF16, /*seed=*/97));
  COMET_RETURN_IF_ERROR(ops.Gather({.out = input.Rows(num_tokens_max),
                                    .x = {x.data(), DType::kF16, {num_tokens_max, num_channels}}}));
  COMET_RETURN_IF_ERROR(device.Synchronize());
  return input;
}

LinearInput BenchInput::Rows(int num_tokens) const {
  return {.format = format_,
          .codes = {codes_.data(), DType::kI8, {num_tokens, num_channels_}},
          .scale = {scale_.data(), DType::kF32, {num_tokens}},
          .exponent = {exponent_.data(), DType::kI32, {num_tokens}},
          .code_sum = {code_sum_.data(), DType::kI32, {num_tokens, 2}}};
}

}  // namespace comet::cuda
