#include "engine/model/layer_runner.h"

#include <numeric>
#include <vector>

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

Status LayerRunner::Run(const DecoderLayer& layer, TensorView hidden, LayerObserver* observer) {
  Device& device = *backend_->device;
  if (!pages_.view().is_present() || pages_format_ != layer.kv_format()) {
    pages_format_ = layer.kv_format();
    const int64_t page_bytes =
        backend_->ops->KvPageBytes(pages_format_, config_.num_kv_heads, config_.head_dim);
    COMET_ASSIGN_OR_RETURN(
        pages_,
        DeviceTensor::Allocate(device, DType::kU8, {num_pages_, static_cast<int>(page_bytes)}));
  }

  const int num_tokens = hidden.dim(0);
  const std::vector<int> token_ids(static_cast<size_t>(num_tokens), 0);  // Not read: hidden is.
  const int query_start[] = {0, num_tokens};
  std::vector<int> page_table(static_cast<size_t>(num_pages_));
  std::iota(page_table.begin(), page_table.end(), 0);
  COMET_RETURN_IF_ERROR(workspace_.Begin({.token_ids = token_ids,
                                          .query_start = query_start,
                                          .context_length = {query_start + 1, 1},
                                          .page_table = page_table,
                                          .logits_rows = {}}));

  return layer.Forward(*backend_->ops, config_,
                       {.hidden = hidden,
                        .workspace = workspace_,
                        .cache = {.pages = pages_.view(),
                                  .format = pages_format_,
                                  .num_kv_heads = config_.num_kv_heads,
                                  .head_dim = config_.head_dim},
                        .cos = cos_.view(),
                        .sin = sin_.view(),
                        .observer = observer});
}

}  // namespace comet
