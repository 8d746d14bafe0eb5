// Mapping  One thread per output of one token; neighbouring threads have neighbouring outputs.
// Traffic  Beside the point: it is written to be read.

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/base/math.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/oracle/naive_linear.h"

namespace comet::cuda {
namespace {

constexpr int kThreads = 256;

// Weights of both kinds: steps is absent for INT8, whose codes are whole bytes.
struct NaiveWeights final : PackedLinear {
  int outputs = 0;
  int inputs = 0;
  int int4_channels = 0;
  DeviceBuffer codes;
  DeviceBuffer steps;
  DeviceBuffer scale;

  WeightKind kind() const override {
    return steps.data() != nullptr ? WeightKind::kW4ax : WeightKind::kInt8;
  }
  int num_outputs() const override { return outputs; }
  int num_inputs() const override { return inputs; }
  int num_int4_channels() const override { return int4_channels; }
  int64_t num_bytes() const override {
    return codes.num_bytes() + steps.num_bytes() + scale.num_bytes();
  }
};

struct NaiveParams {
  const int8_t* x_codes;
  int64_t x_row_stride;
  const float* x_scale;
  const int32_t* x_exponent;
  const uint8_t* codes;
  const int8_t* steps;  // Null: codes are INT8.
  const float* scale;
  const float* bias;
  const void* residual;
  int64_t residual_row_stride;
  void* y;
  int64_t y_row_stride;
  bool is_f16;
  int num_outputs;
  int num_inputs;
  int num_int4;
};

// w8[n, k] of kernels/ops/linear.h.
__device__ int WeightAt(const NaiveParams& params, int n, int k) {
  if (params.steps == nullptr) {
    return static_cast<int8_t>(params.codes[n * int64_t{params.num_inputs} + k]);
  }
  const int num_blocks = CeilDiv(params.num_inputs, kBlockChannels);
  const int byte = params.codes[n * int64_t{params.num_inputs / 2} + k / 2];
  const int nibble = k % 2 == 0 ? byte & 0xf : byte >> 4;
  const int v = nibble < 8 ? nibble : nibble - 16;
  return params.steps[n * int64_t{num_blocks} + k / kBlockChannels] * v;
}

__global__ void NaiveLinearKernel(NaiveParams params) {
  const int n = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int64_t t = blockIdx.y;
  if (n >= params.num_outputs) return;
  const int8_t* x_row = params.x_codes + t * params.x_row_stride;
  int64_t sum_int4 = 0;
  int64_t sum_int8 = 0;
  for (int k = 0; k < params.num_int4; ++k) sum_int4 += WeightAt(params, n, k) * x_row[k];
  for (int k = params.num_int4; k < params.num_inputs; ++k) {
    sum_int8 += WeightAt(params, n, k) * x_row[k];
  }
  const int64_t sum = (sum_int8 << params.x_exponent[t]) + sum_int4;
  float y = static_cast<float>(static_cast<int32_t>(sum)) * (params.scale[n] * params.x_scale[t]);
  if (params.bias != nullptr) y += params.bias[n];
  if (params.residual != nullptr) {
    const int64_t i = t * params.residual_row_stride + n;
    y += params.is_f16 ? __half2float(static_cast<const __half*>(params.residual)[i])
                       : static_cast<const float*>(params.residual)[i];
  }
  const int64_t i = t * params.y_row_stride + n;
  if (params.is_f16) {
    static_cast<__half*>(params.y)[i] = __float2half_rn(y);
  } else {
    static_cast<float*>(params.y)[i] = y;
  }
}

Result<DeviceBuffer> Upload(CudaDevice& device, const ConstTensorView& tensor) {
  const int64_t num_bytes = tensor.shape().num_elements() * BytesOf(tensor.dtype());
  COMET_ASSIGN_OR_RETURN(DeviceBuffer buffer, device.Allocate(num_bytes));
  COMET_RETURN_IF_ERROR(device.CopyToDevice(buffer.data(), tensor.data(), num_bytes));
  return Result<DeviceBuffer>(std::move(buffer));
}

}  // namespace

Result<std::unique_ptr<PackedLinear>> MakeNaiveLinear(CudaDevice& device,
                                                      const W4axWeights& weights) {
  COMET_RETURN_IF_ERROR(Validate(weights));
  auto naive = std::make_unique<NaiveWeights>();
  naive->outputs = weights.codes.dim(0);
  naive->inputs = 2 * weights.codes.dim(1);
  naive->int4_channels = weights.num_int4_channels;
  COMET_ASSIGN_OR_RETURN(naive->codes, Upload(device, weights.codes));
  COMET_ASSIGN_OR_RETURN(naive->steps, Upload(device, weights.steps));
  COMET_ASSIGN_OR_RETURN(naive->scale, Upload(device, weights.scale));
  return std::unique_ptr<PackedLinear>(std::move(naive));
}

Result<std::unique_ptr<PackedLinear>> MakeNaiveLinear(CudaDevice& device,
                                                      const Int8Weights& weights) {
  COMET_RETURN_IF_ERROR(Validate(weights));
  auto naive = std::make_unique<NaiveWeights>();
  naive->outputs = weights.codes.dim(0);
  naive->inputs = weights.codes.dim(1);
  COMET_ASSIGN_OR_RETURN(naive->codes, Upload(device, weights.codes));
  COMET_ASSIGN_OR_RETURN(naive->scale, Upload(device, weights.scale));
  return std::unique_ptr<PackedLinear>(std::move(naive));
}

Status NaiveLinear(CudaDevice& device, const LinearArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.y.dim(0) == 0 || args.y.dim(1) == 0) return Status::Ok();
  const auto* weights = dynamic_cast<const NaiveWeights*>(args.weights);
  COMET_CHECK_MSG(weights != nullptr, "weights were packed by a back end");
  NaiveParams params{.x_codes = args.x.codes.as<int8_t>(),
                     .x_row_stride = args.x.codes.stride(0),
                     .x_scale = args.x.scale.as<float>(),
                     .x_exponent = args.x.exponent.as<int32_t>(),
                     .codes = static_cast<const uint8_t*>(weights->codes.data()),
                     .steps = static_cast<const int8_t*>(weights->steps.data()),
                     .scale = static_cast<const float*>(weights->scale.data()),
                     .bias = nullptr,
                     .residual = args.residual.data(),
                     .residual_row_stride = 0,
                     .y = args.y.data(),
                     .y_row_stride = args.y.stride(0),
                     .is_f16 = args.y.dtype() == DType::kF16,
                     .num_outputs = weights->outputs,
                     .num_inputs = weights->inputs,
                     .num_int4 = weights->int4_channels};
  if (args.bias.is_present()) params.bias = args.bias.as<float>();
  if (args.residual.is_present()) params.residual_row_stride = args.residual.stride(0);
  COMET_RETURN_IF_ERROR(device.MakeCurrent());
  const dim3 grid(static_cast<unsigned>(CeilDiv(params.num_outputs, kThreads)),
                  static_cast<unsigned>(args.y.dim(0)));
  NaiveLinearKernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(device.stream().handle())>>>(
      params);
  return LaunchStatus("naive_linear");
}

}  // namespace comet::cuda
