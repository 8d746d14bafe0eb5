#include "kernels/cuda/sm90_gemm.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "kernels/base/str_cat.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/row_launch.h"
#include "kernels/cuda/sm90_gemm_params.h"
#include "kernels/cuda/sm90_w4ax_layout.h"

namespace comet::sm90 {
namespace {

using cuda::IsAligned;

constexpr int kCopyAlignment = 16;  // Of the copy engine's addresses and strides, in bytes.

template <int... kIdx>
std::array<GemmInstance, sizeof...(kIdx)> MakeInstances(std::integer_sequence<int, kIdx...>) {
  return {MakeGemmInstance<kIdx>()...};
}

const std::array<GemmInstance, kGemmConfigs.size()>& Instances() {
  static const auto instances =
      MakeInstances(std::make_integer_sequence<int, kGemmConfigs.size()>());
  return instances;
}

const GemmInstance* FindInstance(const GemmConfig& config) {
  const auto& instances = Instances();
  const auto found = std::find_if(instances.begin(), instances.end(),
                                  [&](const auto& instance) { return instance.config == config; });
  return found == instances.end() ? nullptr : &*found;
}

// Whether two neighbouring elements from an even column on are one aligned access in every row.
bool HoldsPairs(const ConstTensorView& tensor) {
  return !tensor.is_present() ||
         (tensor.stride(0) % 2 == 0 && IsAligned(tensor.data(), 2 * BytesOf(tensor.dtype())));
}

// Whether the copy engine can store rows of f16.
bool HoldsBoxes(const TensorView& y) {
  return IsAligned(y.data(), kCopyAlignment) &&
         y.stride(0) * BytesOf(DType::kF16) % kCopyAlignment == 0;
}

Status CheckAlignment(const LinearInput& x) {
  COMET_RETURN_IF_ERROR(RequireByteCodes("linear", x.format));
  if (x.codes.stride(0) % kCopyAlignment != 0) {
    return Unimplemented(StrCat("linear: x.codes has row stride ", x.codes.stride(0),
                                " bytes, expected a multiple of ", kCopyAlignment, " on sm_90"));
  }
  if (!IsAligned(x.codes.data(), kCopyAlignment)) {
    return Unimplemented(StrCat("linear: x.codes is at an address that is no multiple of ",
                                kCopyAlignment, ", expected one on sm_90"));
  }
  if (!IsAligned(x.code_sum.data(), sizeof(int2))) {
    return Unimplemented(StrCat("linear: x.code_sum is at an address that is no multiple of ",
                                sizeof(int2), ", expected one on sm_90"));
  }
  return Status::Ok();
}

GemmParams ParamsOf(const LinearArgs& args, const W4axLinear& weights) {
  const int num_int4_blocks = weights.num_int4_channels() / kUnitChannels;
  const int num_outputs = weights.num_outputs();
  return {
      .units = weights.units(),
      .weight_scale = weights.scale(),
      .token_scale = args.x.scale.as<float>(),
      .exponent = args.x.exponent.as<int32_t>(),
      .code_sum = static_cast<const int2*>(args.x.code_sum.data()),
      .bias = args.bias.is_present() ? args.bias.as<float>() : nullptr,
      .residual = args.residual.data(),
      .y = args.y.data(),
      .residual_row_stride = args.residual.is_present() ? args.residual.stride(0) : 0,
      .y_row_stride = args.y.stride(0),
      .num_tokens = args.x.num_tokens(),
      .num_outputs = num_outputs,
      .num_unit_rows = weights.num_unit_rows(),
      .num_int8_blocks = weights.num_blocks() - num_int4_blocks,
      .num_int4_blocks = num_int4_blocks,
      .is_half = args.y.dtype() == DType::kF16,
      .stores_pairs = HoldsPairs(args.y) && HoldsPairs(args.residual),
  };
}

}  // namespace

Result<W4axGemm> W4axGemm::Create() {
  int device_idx = 0;
  COMET_RETURN_IF_ERROR(cuda::StatusOf(cudaGetDevice(&device_idx), "cudaGetDevice"));
  cudaDeviceProp properties{};
  COMET_RETURN_IF_ERROR(
      cuda::StatusOf(cudaGetDeviceProperties(&properties, device_idx), "cudaGetDeviceProperties"));
  if (properties.major != 9 || properties.minor != 0) {
    return Unimplemented(StrCat("linear: device ", properties.name, " is sm_", properties.major,
                                properties.minor, ", expected sm_90"));
  }
  COMET_ASSIGN_OR_RETURN(const TensorMapEncoder encoder, TensorMapEncoder::Create());
  for (const GemmInstance& instance : Instances()) {
    COMET_RETURN_IF_ERROR(cuda::StatusOf(instance.prepare(), "cudaFuncSetAttribute"));
  }
  return W4axGemm(properties.multiProcessorCount, encoder);
}

Status W4axGemm::Run(const LinearArgs& args, void* stream) const {
  COMET_RETURN_IF_ERROR(Validate(args));
  const GemmShape shape{.num_tokens = args.x.num_tokens(),
                        .num_outputs = args.weights->num_outputs(),
                        .num_inputs = args.weights->num_inputs()};
  return Run(args, ChooseGemmConfig(shape, num_sms_), stream);
}

Status W4axGemm::Run(const LinearArgs& args, const GemmConfig& config, void* stream) const {
  COMET_RETURN_IF_ERROR(Validate(args));
  const auto* weights = dynamic_cast<const W4axLinear*>(args.weights);
  COMET_CHECK_MSG(weights != nullptr, "weights were packed by another back end");
  const GemmInstance* instance = FindInstance(config);
  COMET_CHECK_MSG(instance != nullptr, "no kernel has this config");
  if (args.x.num_tokens() == 0 || weights->num_outputs() == 0) return Status::Ok();
  COMET_RETURN_IF_ERROR(CheckAlignment(args.x));

  GemmParams params = ParamsOf(args, *weights);
  const TensorView& codes = args.x.codes;
  COMET_RETURN_IF_ERROR(encoder_.Encode(codes.data(), codes.dim(0), codes.dim(1), codes.stride(0),
                                        config.tile_tokens, params.codes));
  // With a residual, which boxes read pair by pair, straight stores are faster: sm90_gemm.md.
  params.stores_boxes = params.is_half && config.box_tokens() > 0 && HoldsBoxes(args.y) &&
                        !args.residual.is_present();
  if (params.stores_boxes) {
    COMET_RETURN_IF_ERROR(encoder_.Encode(
        args.y.data(), args.y.dim(0), args.y.dim(1) * BytesOf(DType::kF16),
        args.y.stride(0) * BytesOf(DType::kF16), config.box_tokens(), params.y_boxes));
  }
  return cuda::StatusOf(instance->launch(params, num_sms_, static_cast<cudaStream_t>(stream)),
                        "the launch of linear");
}

}  // namespace comet::sm90
