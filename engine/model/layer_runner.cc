#include "engine/model/layer_runner.h"

#include "engine/model/prompt_step.h"
#include "engine/model/rope.h"
#include "kernels/base/math.h"

namespace comet {

Result<LayerRunner> LayerRunner::Create(Backend& backend, const ModelConfig& config,
                                        const Precision& precision, int window_tokens_max) {
  LayerRunner runner;
  runner.backend_ = &backend;
  runner.config_ = config;
  runner.num_pages_ = CeilDiv(window_tokens_max, kPageTokens);
  COMET_ASSIGN_OR_RETURN(runner.workspace_,
                         StepWorkspace::Create(*backend.device, config, precision.activations,
                                               {.step_tokens_max = window_tokens_max,
                                                .sequences_max = 1,
                                                .pages_per_sequence_max = runner.num_pages_}));
  COMET_ASSIGN_OR_RETURN(const RopeTables rope,
                         MakeRopeTables(config.rope, config.rotary_dim, window_tokens_max));
  const TensorShape rope_shape{window_tokens_max, config.rotary_dim / 2};
  COMET_ASSIGN_OR_RETURN(
      runner.cos_,
      DeviceTensor::Upload(*backend.device, {rope.cos.data(), DType::kF32, rope_shape}));
  COMET_ASSIGN_OR_RETURN(
      runner.sin_,
      DeviceTensor::Upload(*backend.device, {rope.sin.data(), DType::kF32, rope_shape}));
  return runner;
}

Status LayerRunner::Run(const DecoderLayer& layer, TensorView hidden) {
  Device& device = *backend_->device;
  if (!pages_.view().is_present() || pages_format_ != layer.kv_format()) {
    pages_format_ = layer.kv_format();
    const int64_t page_bytes =
        backend_->ops->KvPageBytes(pages_format_, config_.num_kv_heads, config_.head_dim);
    COMET_ASSIGN_OR_RETURN(
        pages_,
        DeviceTensor::Allocate(device, DType::kU8, {num_pages_, static_cast<int>(page_bytes)}));
  }

  // Its ids are not read: hidden is.
  COMET_RETURN_IF_ERROR(
      workspace_.Begin(PromptStep(hidden.dim(0), num_pages_).Input(/*with_logits=*/false)));

  return layer.Forward(*backend_->ops, config_,
                       {.hidden = hidden,
                        .workspace = workspace_,
                        .cache = {.pages = pages_.view(),
                                  .format = pages_format_,
                                  .num_kv_heads = config_.num_kv_heads,
                                  .head_dim = config_.head_dim},
                        .cos = cos_.view(),
                        .sin = sin_.view()});
}

}  // namespace comet
