#include "engine/quantizer/attention_probe.h"

#include <cmath>

#include "engine/model/pack_floats.h"
#include "engine/model/prompt_step.h"
#include "engine/model/rope.h"

namespace comet {
namespace {

ConstTensorView VectorView(const std::vector<float>& values) {
  if (values.empty()) return {};
  return {values.data(), DType::kF32, {static_cast<int>(values.size())}};
}

}  // namespace

Result<AttentionProbe> AttentionProbe::Create(Backend& backend, const ModelConfig& config,
                                              const FloatLayer& layer, ConstTensorView hidden) {
  AttentionProbe probe(backend, config, hidden.dim(0));
  COMET_RETURN_IF_ERROR(probe.Prepare(layer, hidden));
  return probe;
}

Status AttentionProbe::Prepare(const FloatLayer& layer, ConstTensorView hidden) {
  Device& device = *backend_.device;
  const int num_tokens = hidden.dim(0);
  hidden_ = hidden;
  COMET_ASSIGN_OR_RETURN(workspace_, StepWorkspace::Create(device, config_, ActivationMode::kFloat,
                                                           {.step_tokens_max = num_tokens,
                                                            .sequences_max = 1,
                                                            .pages_per_sequence_max = num_pages_}));
  // Its ids are not read: hidden is.
  COMET_RETURN_IF_ERROR(
      workspace_.Begin(PromptStep(num_tokens, num_pages_).Input(/*with_logits=*/false)));

  COMET_ASSIGN_OR_RETURN(
      weights_, PackFloats(*backend_.ops, layer.qkv, config_.qkv_size(), config_.hidden_size));
  COMET_ASSIGN_OR_RETURN(norm_, DeviceTensor::Upload(device, VectorView(layer.input_norm)));
  COMET_ASSIGN_OR_RETURN(bias_, DeviceTensor::Upload(device, VectorView(layer.qkv_bias)));
  COMET_ASSIGN_OR_RETURN(const RopeTables rope,
                         MakeRopeTables(config_.rope, config_.rotary_dim, num_tokens));
  const TensorShape shape{num_tokens, config_.rotary_dim / 2};
  COMET_ASSIGN_OR_RETURN(cos_, DeviceTensor::Upload(device, {rope.cos.data(), DType::kF32, shape}));
  COMET_ASSIGN_OR_RETURN(sin_, DeviceTensor::Upload(device, {rope.sin.data(), DType::kF32, shape}));
  return Status::Ok();
}

Result<std::vector<float>> AttentionProbe::Run(const KvFormat& format, bool hadamard) {
  Ops& ops = *backend_.ops;
  const int64_t page_bytes = ops.KvPageBytes(format, config_.num_kv_heads, config_.head_dim);
  COMET_ASSIGN_OR_RETURN(const DeviceTensor pages,
                         DeviceTensor::Allocate(*backend_.device, DType::kU8,
                                                {num_pages_, static_cast<int>(page_bytes)}));
  const KvCacheView cache{.pages = pages.view(),
                          .format = format,
                          .num_kv_heads = config_.num_kv_heads,
                          .head_dim = config_.head_dim};
  const LinearInput input = workspace_.Input({}, config_.hidden_size);
  COMET_RETURN_IF_ERROR(ops.RmsNorm(
      {.out = input, .x = hidden_, .weight = norm_.view(), .epsilon = config_.rms_norm_epsilon}));
  COMET_RETURN_IF_ERROR(ops.Linear(
      {.y = workspace_.qkv(), .x = input, .weights = weights_.get(), .bias = bias_.view()}));
  COMET_RETURN_IF_ERROR(ops.RopeAppend({.q_out = workspace_.queries(),
                                        .cache = cache,
                                        .qkv = workspace_.qkv(),
                                        .cos = cos_.view(),
                                        .sin = sin_.view(),
                                        .batch = workspace_.batch(),
                                        .num_heads = config_.num_heads,
                                        .hadamard = hadamard}));
  COMET_RETURN_IF_ERROR(
      ops.Attention({.out = workspace_.attention(),
                     .q = workspace_.queries(),
                     .cache = cache,
                     .batch = workspace_.batch(),
                     .num_heads = config_.num_heads,
                     .softmax_scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                     .window = config_.sliding_window}));
  std::vector<float> output(static_cast<size_t>(workspace_.attention().shape().num_elements()));
  COMET_RETURN_IF_ERROR(
      backend_.device->CopyToHost(output.data(), workspace_.attention().data(),
                                  static_cast<int64_t>(output.size() * sizeof(float))));
  return output;
}

}  // namespace comet
