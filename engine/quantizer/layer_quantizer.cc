#include "engine/quantizer/layer_quantizer.h"

#include <span>
#include <utility>
#include <vector>

#include "engine/quantizer/channel_order.h"
#include "engine/quantizer/linear_quantizer.h"

namespace comet {
namespace {

// The order of a linear layer's channels goes into its weights' columns and what calibration saw.
Result<LinearResult> QuantizeOrdered(Backend& backend, int num_outputs,
                                     std::span<const float> weights,
                                     const ActivationStatistics& statistics,
                                     const ChannelOrder& order,
                                     const LayerQuantizerOptions& options) {
  const std::vector<float> ordered = PermuteColumns(weights, order.gather);
  const std::vector<float> sample = PermuteColumns(statistics.sample, order.gather);
  const std::vector<float> gram = PermuteRows(
      PermuteColumns(statistics.DampedGram(options.damping), order.gather), order.gather);
  return QuantizeLinear(backend,
                        {.num_outputs = num_outputs,
                         .num_inputs = statistics.num_channels,
                         .weights = ordered,
                         .sample = sample,
                         .gram = gram,
                         .num_int4_channels = order.num_int4_channels},
                        options.search);
}

// Rows of gate and of up in the order that down_proj wants its channels.
std::vector<float> FoldDownOrder(std::span<const float> gate_up, const ChannelOrder& down_order) {
  std::vector<float> gate = PermuteRows(gate_up.first(gate_up.size() / 2), down_order.gather);
  const std::vector<float> up = PermuteRows(gate_up.last(gate_up.size() / 2), down_order.gather);
  gate.insert(gate.end(), up.begin(), up.end());
  return gate;
}

}  // namespace

Result<LayerResult> QuantizeLayer(Backend& backend, const ModelConfig& config,
                                  const FloatLayer& layer, const StatisticsObserver& statistics,
                                  const LayerQuantizerOptions& options) {
  const auto order_of = [&](LinearKind kind) {
    const ActivationStatistics& seen = statistics.of(kind);
    return OrderChannels(seen.abs_max, seen.Activity(), options.int4_share);
  };
  LayerResult result;
  // With a gather; `bias` may be empty.
  const auto quantize = [&](LinearKind kind, int num_outputs, std::span<const float> weights,
                            const std::vector<float>& bias, QuantizedLinear& linear,
                            LinearAccuracy& accuracy) -> Status {
    ChannelOrder order = order_of(kind);
    COMET_ASSIGN_OR_RETURN(
        LinearResult quantized,
        QuantizeOrdered(backend, num_outputs, weights, statistics.of(kind), order, options));
    linear = std::move(quantized.linear);
    linear.gather = std::move(order.gather);
    linear.bias = bias;
    accuracy = quantized.accuracy;
    return Status::Ok();
  };
  QuantizedLayer& out = result.layer;
  LayerAccuracy& accuracy = result.accuracy;
  out.input_norm = layer.input_norm;
  out.post_attention_norm = layer.post_attention_norm;
  COMET_RETURN_IF_ERROR(quantize(LinearKind::kQkv, config.qkv_size(), layer.qkv, layer.qkv_bias,
                                 out.qkv, accuracy.qkv));
  COMET_RETURN_IF_ERROR(
      quantize(LinearKind::kO, config.hidden_size, layer.o, {}, out.o, accuracy.o));
  const ChannelOrder down_order = order_of(LinearKind::kDown);
  COMET_RETURN_IF_ERROR(quantize(LinearKind::kGateUp, 2 * config.ffn_size,
                                 FoldDownOrder(layer.gate_up, down_order), {}, out.gate_up,
                                 accuracy.gate_up));
  COMET_RETURN_IF_ERROR(
      quantize(LinearKind::kDown, config.hidden_size, layer.down, {}, out.down, accuracy.down));
  out.down.gather.clear();  // Folded into gate and up.
  return result;
}

}  // namespace comet
