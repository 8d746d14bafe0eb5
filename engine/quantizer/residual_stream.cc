#include "engine/quantizer/residual_stream.h"

#include <algorithm>
#include <functional>
#include <memory>

#include "engine/model/pack_floats.h"
#include "engine/quantizer/attention_gradient.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/host_layer.h"

namespace comet {

Result<ResidualStream> ResidualStream::Create(Backend& backend, const ModelConfig& config,
                                              WindowRows hidden, int num_threads) {
  size_t values_max = 0;
  for (const HostRows& rows : hidden) values_max = std::max(values_max, rows.size());
  ResidualStream stream(backend, config, std::move(hidden), num_threads);
  COMET_ASSIGN_OR_RETURN(stream.rope_,
                         MakeRopeTables(config.rope, config.rotary_dim,
                                        static_cast<int>(values_max) / config.hidden_size));
  return stream;
}

void ResidualStream::BeginLayer(const FloatLayer& layer) {
  inputs_.clear();
  for (const HostRows& rows : hidden_) inputs_.push_back(Norm(rows, layer.input_norm));
}

Result<WindowRows> ResidualStream::Pass(LinearKind kind, const FloatLayer& layer,
                                        std::span<const float> weights) {
  const size_t num_tokens = hidden_.front().size() / static_cast<size_t>(config_.hidden_size);
  const int num_inputs = static_cast<int>(inputs_.front().size() / num_tokens);
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<PackedLinear> packed,
                         PackFloats(*backend_->ops, weights,
                                    static_cast<int>(weights.size()) / num_inputs, num_inputs));
  WindowRows used = std::move(inputs_);
  inputs_.resize(used.size());
  HostRows product;
  for (size_t i = 0; i < used.size(); ++i) {
    COMET_RETURN_IF_ERROR(MultiplyByTransposed(*backend_, used[i], *packed, product));
    switch (kind) {
      case LinearKind::kQkv: {
        AddToRows(layer.qkv_bias, product);
        inputs_[i] = Attend(product);
        break;
      }
      case LinearKind::kGateUp:
        inputs_[i] = SiluMulRows(product, static_cast<size_t>(config_.ffn_size), num_threads_);
        break;
      case LinearKind::kO:
      case LinearKind::kDown: AddTo(product, num_threads_, hidden_[i]); break;
    }
    if (kind == LinearKind::kO) inputs_[i] = Norm(hidden_[i], layer.post_attention_norm);
  }
  return used;
}

HostRows ResidualStream::Attend(std::span<const float> qkv) const {
  const size_t num_tokens = qkv.size() / static_cast<size_t>(config_.qkv_size());
  AttentionRows rows = SplitHeads(config_, qkv, num_threads_);
  RotateHeads(config_, rope_, num_tokens, 1.0f, num_threads_, rows.q);
  RotateHeads(config_, rope_, num_tokens, 1.0f, num_threads_, rows.k);
  return CausalAttention(AttentionShapeOf(config_, num_tokens), rows, num_threads_);
}

HostRows ResidualStream::Norm(std::span<const float> rows, std::span<const float> weight) const {
  const std::vector<float> ones(weight.size(), 1.0f);
  return NormRows(rows, weight, ones, config_.rms_norm_epsilon, num_threads_);
}

}  // namespace comet
