#include "kernels/cuda/sm80_gemm.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/row_launch.h"
#include "kernels/cuda/sm80_gemm_params.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

namespace comet::sm80 {
namespace {

constexpr int kNumConfigs = static_cast<int>(kGemmConfigs.size());
constexpr int kCopyBytes = 16;
constexpr int kCopiesOfARow = 4;                   // Of a stage's 64 bytes of a token.
constexpr int64_t kOffsetsEnd = int64_t{1} << 32;  // The kernel's offsets have 32 bits.

template <bool kIsPacked, int... kIdx>
std::array<GemmInstance, kNumConfigs> MakeInstances(std::integer_sequence<int, kIdx...>) {
  return {MakeGemmInstance<kIdx, kIsPacked>()...};
}

const GemmInstance& InstanceOf(int config_idx, bool is_packed) {
  using Indices = std::make_integer_sequence<int, kNumConfigs>;
  static const auto bytes = MakeInstances<false>(Indices());
  static const auto packed = MakeInstances<true>(Indices());
  return (is_packed ? packed : bytes)[static_cast<size_t>(config_idx)];
}

Status CheckCodes(const LinearArgs& args, const W4axLinear& weights) {
  const TensorView& codes = args.x.codes;
  if (!cuda::HasAlignedRows(codes, kCopyBytes)) {
    return Unimplemented(StrCat("linear: x.codes ", codes.shape().ToString(),
                                " have rows not at multiples of 16 bytes, expected such ones"));
  }
  if (codes.dim(0) * codes.stride(0) >= kOffsetsEnd || weights.num_bytes() >= kOffsetsEnd) {
    return Unimplemented(StrCat("linear: x.codes ", codes.shape().ToString(), " or weights of ",
                                weights.num_bytes(), " bytes, expected less than 4 GiB"));
  }
  return Status::Ok();
}

// Whether eight neighbouring elements, from a multiple of eight on, are aligned in every row.
bool HoldsVectors(const ConstTensorView& tensor) {
  return !tensor.is_present() || cuda::HasAlignedRows(tensor, kCopyBytes);
}

// The largest e at which no sum of a token, its weights taken as unsigned bytes, leaves 31 bits,
// whatever its codes; -1 where there is none.
int PairExponentMax(const LinearArgs& args, const W4axLinear& weights) {
  constexpr int64_t kCodeMax = 127;
  constexpr int64_t kByteMax = 255;
  constexpr int64_t kWeightMax = 128;  // Of INT4 blocks that are multiplied as such.
  const int64_t int4_code_max = args.x.format.mode == ActivationMode::kMixed ? 7 : kCodeMax;
  const int64_t int4_sum = weights.num_int4_channels() * int4_code_max *
                           (args.x.format.packs_int4 ? kWeightMax : kByteMax);
  const int64_t int8_sum =
      (weights.num_inputs() - weights.num_int4_channels()) * kCodeMax * kByteMax;
  int exponent = -1;
  while (exponent < kExponentMax && (int8_sum << (exponent + 1)) + int4_sum < int64_t{1} << 31) {
    ++exponent;
  }
  return exponent;
}

GemmParams ParamsOf(const LinearArgs& args, const W4axLinear& weights, const GemmPlan& plan) {
  const GemmConfig& config = kGemmConfigs[static_cast<size_t>(plan.config_idx)];
  const int num_int4_blocks = weights.num_int4_channels() / kUnitChannels;
  const int num_token_tiles = CeilDiv(args.x.num_tokens(), config.tile_tokens());
  const WorkSplit& split = plan.split;
  return {
      .units = weights.units(),
      .weight_scale = weights.scale(),
      .codes = args.x.codes.as<int8_t>(),
      .token_scale = args.x.scale.as<float>(),
      .exponent = args.x.exponent.as<int32_t>(),
      .code_sum = static_cast<const int2*>(args.x.code_sum.data()),
      .bias = args.bias.is_present() ? args.bias.as<float>() : nullptr,
      .residual = args.residual.data(),
      .y = args.y.data(),
      .partials = nullptr,
      .slots = nullptr,
      .progress = nullptr,
      .codes_row_stride = args.x.codes.stride(0),
      .codes_copy_stride =
          static_cast<uint32_t>(args.x.codes.stride(0) * (config.group_threads() / kCopiesOfARow)),
      .residual_row_stride = args.residual.is_present() ? args.residual.stride(0) : 0,
      .y_row_stride = args.y.stride(0),
      .num_tokens = args.x.num_tokens(),
      .num_outputs = weights.num_outputs(),
      .num_inputs = weights.num_inputs(),
      .num_int8_blocks = weights.num_blocks() - num_int4_blocks,
      .num_int4_blocks = num_int4_blocks,
      .num_unit_rows = weights.num_unit_rows(),
      .num_token_tiles = num_token_tiles,
      .token_tiles_inverse = num_token_tiles == 1 ? 0
                                                  : static_cast<uint32_t>(CeilDiv<int64_t>(
                                                        kOffsetsEnd, num_token_tiles)),
      .sign_bits = 0x08080808u,
      .pair_exponent_max = PairExponentMax(args, weights),
      .is_half = args.y.dtype() == DType::kF16,
      .stores_vectors = HoldsVectors(args.y) && HoldsVectors(args.residual),
      .split = split,
  };
}

}  // namespace

Result<W4axGemm> W4axGemm::Create(CudaDevice& device) {
  COMET_RETURN_IF_ERROR(device.MakeCurrent());
  int device_idx = 0;
  COMET_RETURN_IF_ERROR(cuda::StatusOf(cudaGetDevice(&device_idx), "cudaGetDevice"));
  cudaDeviceProp properties{};
  COMET_RETURN_IF_ERROR(
      cuda::StatusOf(cudaGetDeviceProperties(&properties, device_idx), "cudaGetDeviceProperties"));
  if (properties.major < 8) {
    return Unimplemented(StrCat("linear: device ", properties.name, " is sm_", properties.major,
                                properties.minor, ", expected sm_80 or later"));
  }
  DeviceRates rates;
  rates.num_sms = properties.multiProcessorCount;
  rates.smem_kb = static_cast<int>(properties.sharedMemPerBlockOptin >> 10);
  int64_t partial_sums = 0;
  int64_t slot_sums = 0;
  for (int i = 0; i < kNumConfigs; ++i) {
    if (!Fits(kGemmConfigs[static_cast<size_t>(i)], rates)) continue;
    for (const bool is_packed : {false, true}) {
      COMET_RETURN_IF_ERROR(
          cuda::StatusOf(InstanceOf(i, is_packed).prepare(), "cudaFuncSetAttribute"));
    }
    const GemmInstance& instance = InstanceOf(i, /*is_packed=*/true);
    const int64_t num_ctas = NumCtas(i, rates);
    // A plan cuts fewer than two tiles a CTA (Decompose()).
    partial_sums = std::max(partial_sums, 2 * num_ctas * instance.partial_sums);
    slot_sums = std::max(slot_sums, kSlots * num_ctas * instance.slot_sums);
  }
  constexpr int64_t sum_bytes = sizeof(int32_t);
  COMET_ASSIGN_OR_RETURN(DeviceBuffer partials, device.Allocate(partial_sums * sum_bytes));
  COMET_RETURN_IF_ERROR(device.FillZero(partials.data(), partial_sums * sum_bytes));
  COMET_ASSIGN_OR_RETURN(DeviceBuffer slots, device.Allocate(slot_sums * sum_bytes));
  constexpr int64_t progress_bytes = int64_t{2} * kCtasMax * int64_t{sizeof(int32_t)};
  COMET_ASSIGN_OR_RETURN(DeviceBuffer progress, device.Allocate(progress_bytes));
  COMET_RETURN_IF_ERROR(device.FillZero(progress.data(), progress_bytes));
  return W4axGemm(rates, properties.major == 8, std::move(partials), std::move(slots),
                  std::move(progress));
}

GemmShape W4axGemm::ShapeOf(const LinearArgs& args) {
  return ShapeOf(*args.weights, args.x.num_tokens(), args.x.format.packs_int4);
}

GemmShape W4axGemm::ShapeOf(const PackedLinear& weights, int num_tokens, bool packs_int4) {
  const int num_blocks = CeilDiv(weights.num_inputs(), kUnitChannels);
  const int num_int4 = packs_int4 ? weights.num_int4_channels() / kUnitChannels : 0;
  return {.num_tokens = num_tokens,
          .num_outputs = weights.num_outputs(),
          .num_int8_blocks = num_blocks - num_int4,
          .num_int4_blocks = num_int4};
}

void W4axGemm::PlanAhead(const PackedLinear& weights) {
  if (weights.num_outputs() == 0) return;
  plans_.PlanAhead(ShapeOf(weights, /*num_tokens=*/0, /*packs_int4=*/false));
  if (has_int4_products_) plans_.PlanAhead(ShapeOf(weights, /*num_tokens=*/0, /*packs_int4=*/true));
}

Status W4axGemm::Run(const LinearArgs& args, void* stream) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.x.num_tokens() == 0 || args.weights->num_outputs() == 0) return Status::Ok();
  return Run(args, plans_.PlanOf(ShapeOf(args)), stream);
}

Status W4axGemm::Run(const LinearArgs& args, const GemmPlan& plan, void* stream) const {
  return RunBy(InstanceOf(plan.config_idx, args.x.format.packs_int4), args, plan, stream);
}

Status W4axGemm::RunBy(const GemmInstance& instance, const LinearArgs& args, const GemmPlan& plan,
                       void* stream) const {
  COMET_RETURN_IF_ERROR(Validate(args));
  const auto* weights = dynamic_cast<const W4axLinear*>(args.weights);
  COMET_CHECK_MSG(weights != nullptr, "weights were packed by another back end");
  if (args.x.num_tokens() == 0 || weights->num_outputs() == 0) return Status::Ok();
  COMET_RETURN_IF_ERROR(CheckCodes(args, *weights));
  // The workspace holds so many CTAs' slots and twice so many split tiles.
  const int num_ctas = NumCtas(plan.config_idx, rates_);
  COMET_CHECK(Fits(kGemmConfigs[static_cast<size_t>(plan.config_idx)], rates_));
  COMET_CHECK(plan.split.num_ctas > 0 && plan.split.num_ctas <= num_ctas);
  COMET_CHECK(plan.split.boundary[plan.split.num_ctas].tile <= 2 * num_ctas);

  GemmParams params = ParamsOf(args, *weights, plan);
  params.partials = static_cast<unsigned long long*>(partials_.data());
  params.slots = static_cast<int4*>(slots_.data());
  params.progress = static_cast<int32_t*>(progress_.data());
  return cuda::StatusOf(instance.launch(params, static_cast<cudaStream_t>(stream)),
                        "the launch of linear");
}

}  // namespace comet::sm80
