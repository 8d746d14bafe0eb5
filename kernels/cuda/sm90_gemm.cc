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

bool IsEmpty(const LinearArgs& args) {
  return args.x.num_tokens() == 0 || args.weights->num_outputs() == 0;
}

// What a plan is made of.
struct GemmPlanKey {
  const void* codes = nullptr;
  int64_t codes_row_stride = 0;
  const void* y = nullptr;
  int64_t y_row_stride = 0;
  int num_tokens = 0;
  int num_outputs = 0;
  int num_inputs = 0;
  DType y_dtype = DType::kF32;
  bool has_residual = false;
  friend bool operator==(const GemmPlanKey&, const GemmPlanKey&) = default;
};

GemmPlanKey KeyOf(const LinearArgs& args) {
  return {.codes = args.x.codes.data(),
          .codes_row_stride = args.x.codes.stride(0),
          .y = args.y.data(),
          .y_row_stride = args.y.stride(0),
          .num_tokens = args.x.num_tokens(),
          .num_outputs = args.weights->num_outputs(),
          .num_inputs = args.weights->num_inputs(),
          .y_dtype = args.y.dtype(),
          .has_residual = args.residual.is_present()};
}

// What a launch needs beyond its arguments.
struct GemmPlan {
  const GemmInstance* instance = nullptr;
  CUtensorMap codes = {};
  CUtensorMap y_boxes = {};  // Where stores_boxes.
  bool stores_boxes = false;
};

Status MakePlan(const LinearArgs& args, const GemmConfig& config, const TensorMapEncoder& encoder,
                GemmPlan& plan) {
  plan.instance = FindInstance(config);
  COMET_CHECK_MSG(plan.instance != nullptr, "no kernel has this config");
  const TensorView& codes = args.x.codes;
  COMET_RETURN_IF_ERROR(encoder.Encode(codes.data(), codes.dim(0), codes.dim(1), codes.stride(0),
                                       config.tile_tokens, plan.codes));
  // With a residual straight stores are faster: sm90_gemm.md.
  plan.stores_boxes = args.y.dtype() == DType::kF16 && config.box_tokens() > 0 &&
                      HoldsBoxes(args.y) && !args.residual.is_present();
  if (plan.stores_boxes) {
    COMET_RETURN_IF_ERROR(
        encoder.Encode(args.y.data(), args.y.dim(0), args.y.dim(1) * BytesOf(DType::kF16),
                       args.y.stride(0) * BytesOf(DType::kF16), config.box_tokens(), plan.y_boxes));
  }
  return Status::Ok();
}

GemmParams ParamsOf(const LinearArgs& args, const W4axLinear& weights, const GemmPlan& plan) {
  const int num_int4_blocks = weights.num_int4_channels() / kUnitChannels;
  const int num_outputs = weights.num_outputs();
  return {
      .codes = plan.codes,
      .y_boxes = plan.y_boxes,
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
      .stores_boxes = plan.stores_boxes,
      .stores_pairs = HoldsPairs(args.y) && HoldsPairs(args.residual),
  };
}

Status LaunchPlan(const LinearArgs& args, const GemmPlan& plan, int num_sms, cudaStream_t stream) {
  const auto* weights = dynamic_cast<const W4axLinear*>(args.weights);
  COMET_CHECK_MSG(weights != nullptr, "weights were packed by another back end");
  return cuda::LaunchStatus(plan.instance->launch(ParamsOf(args, *weights, plan), num_sms, stream),
                            "linear");
}

}  // namespace

// The plans last made. A step's layers share their buffers, so that a plan serves all of them:
// a config is chosen and the buffers are described to the copy engine once a step.
class GemmPlans {
 public:
  // Null: there is none. Otherwise it stays until the next Add().
  const GemmPlan* Find(const GemmPlanKey& key) const {
    const auto found = std::find(keys_.begin(), keys_.end(), key);
    return found == keys_.end() ? nullptr : &plans_[static_cast<size_t>(found - keys_.begin())];
  }
  const GemmPlan* Add(const GemmPlanKey& key, const GemmPlan& plan) {
    const size_t i = next_idx_;
    next_idx_ = (next_idx_ + 1) % kPlans;
    keys_[i] = key;
    plans_[i] = plan;
    return &plans_[i];
  }

 private:
  static constexpr size_t kPlans = 8;  // Of a layer's four products, and those of the step before.

  std::array<GemmPlanKey, kPlans> keys_;
  std::array<GemmPlan, kPlans> plans_;
  size_t next_idx_ = 0;
};

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

W4axGemm::W4axGemm(int num_sms, TensorMapEncoder encoder)
    : num_sms_(num_sms), encoder_(encoder), plans_(std::make_unique<GemmPlans>()) {}
W4axGemm::W4axGemm(W4axGemm&&) noexcept = default;
W4axGemm& W4axGemm::operator=(W4axGemm&&) noexcept = default;
W4axGemm::~W4axGemm() = default;

Status W4axGemm::Run(const LinearArgs& args, void* stream) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (IsEmpty(args)) return Status::Ok();
  COMET_RETURN_IF_ERROR(CheckAlignment(args.x));
  const GemmPlanKey key = KeyOf(args);
  const GemmPlan* plan = plans_->Find(key);
  if (plan == nullptr) {
    const GemmShape shape{
        .num_tokens = key.num_tokens, .num_outputs = key.num_outputs, .num_inputs = key.num_inputs};
    GemmPlan made;
    COMET_RETURN_IF_ERROR(MakePlan(args, ChooseGemmConfig(shape, num_sms_), encoder_, made));
    plan = plans_->Add(key, made);
  }
  return LaunchPlan(args, *plan, num_sms_, static_cast<cudaStream_t>(stream));
}

Status W4axGemm::Run(const LinearArgs& args, const GemmConfig& config, void* stream) const {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (IsEmpty(args)) return Status::Ok();
  COMET_RETURN_IF_ERROR(CheckAlignment(args.x));
  GemmPlan plan;
  COMET_RETURN_IF_ERROR(MakePlan(args, config, encoder_, plan));
  return LaunchPlan(args, plan, num_sms_, static_cast<cudaStream_t>(stream));
}

}  // namespace comet::sm90
