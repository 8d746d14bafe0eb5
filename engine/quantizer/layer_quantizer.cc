#include "engine/quantizer/layer_quantizer.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "engine/quantizer/channel_order.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/layer_linears.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/transposed.h"
#include "engine/quantizer/weight_target.h"

namespace comet {
namespace {

// Rows of a matrix of whole bytes or floats in another order.
template <typename T>
std::vector<T> Reorder(const std::vector<T>& rows, std::span<const int32_t> order) {
  const size_t width = rows.size() / order.size();
  std::vector<T> reordered;
  reordered.reserve(rows.size());
  for (const int32_t row : order) {
    const auto first = rows.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(row) * width);
    reordered.insert(reordered.end(), first, first + static_cast<std::ptrdiff_t>(width));
  }
  return reordered;
}

// Rows of gate and of up in the order that down_proj wants its channels.
void FoldDownOrder(const std::vector<int32_t>& down_gather, QuantizedLinear& gate_up,
                   std::vector<int8_t>& residuals) {
  std::vector<int32_t> order = down_gather;
  const int32_t ffn = static_cast<int32_t>(down_gather.size());
  for (const int32_t row : down_gather) order.push_back(ffn + row);
  gate_up.codes = Reorder(gate_up.codes, order);
  gate_up.steps = Reorder(gate_up.steps, order);
  gate_up.scale = Reorder(gate_up.scale, order);
  residuals = Reorder(residuals, order);
}

class Quantizer {
 public:
  Quantizer(Backend& backend, const FloatLayer& layer, CalibrationStreams& streams,
            const LayerQuantizerOptions& options)
      : backend_(backend), layer_(layer), streams_(streams), options_(options) {}

  // Leaves the streams behind the linear.
  Status Quantize(LinearKind kind, const ActivationStatistics& seen, LayerResult& result);
  Result<ActivationStatistics> See(LinearKind kind) {
    return streams_.See(kind, layer_, options_.sample_stride);
  }

 private:
  Backend& backend_;
  const FloatLayer& layer_;
  CalibrationStreams& streams_;
  const LayerQuantizerOptions& options_;
};

Status Quantizer::Quantize(LinearKind kind, const ActivationStatistics& seen, LayerResult& result) {
  const size_t kind_idx = static_cast<size_t>(kind);
  const std::span<const float> weights = *LinearsOf(layer_)[kind_idx];
  COMET_ASSIGN_OR_RETURN(const std::vector<float> target,
                         WeightTarget(backend_, weights, seen,
                                      {.damping = options_.damping,
                                       .gap_share = options_.gap_share,
                                       .num_threads = options_.search.num_threads}));
  // The order goes into the weights' columns and what calibration saw.
  ChannelOrder order =
      OrderChannels(seen.abs_max, seen.Activity(), *LinearsOf(options_.int4_channels)[kind_idx]);
  const bool hadamard = kind == LinearKind::kDown && options_.down_hadamard;
  if (hadamard) DealOverBlocks(order);
  const int num_threads = options_.search.num_threads;
  std::vector<float> ordered = PermuteColumns(target, order.gather, num_threads);
  std::vector<float> sample = PermuteColumns(seen.sample, order.gather, num_threads);
  std::vector<float> gram = PermuteRows(
      PermuteColumns(seen.DampedGram(options_.damping), order.gather, num_threads), order.gather);
  if (hadamard) {
    const auto rotate = [&](std::vector<float>& rows) {
      HadamardBlocks(rows, seen.num_channels, order.num_int4_channels, num_threads);
    };
    rotate(ordered);
    rotate(sample);
    rotate(gram);
    const HostRows transposed = Transposed(gram, seen.num_channels, num_threads);
    gram.assign(transposed.begin(), transposed.end());
    rotate(gram);
  }
  COMET_ASSIGN_OR_RETURN(
      LinearResult quantized,
      QuantizeLinear(backend_,
                     {.num_outputs = static_cast<int>(weights.size() / order.gather.size()),
                      .num_inputs = seen.num_channels,
                      .weights = ordered,
                      .sample = sample,
                      .gram = gram,
                      .num_int4_channels = order.num_int4_channels},
                     options_.search));
  QuantizedLinear& linear = *LinearsOf(result.layer)[kind_idx];
  linear = std::move(quantized.linear);
  linear.gather = std::move(order.gather);
  if (kind == LinearKind::kQkv) linear.bias = layer_.qkv_bias;
  *LinearsOf(result.accuracy)[kind_idx] = quantized.accuracy;
  result.residuals[kind_idx] = std::move(quantized.residuals);
  return streams_.Follow(kind, layer_, DequantizeInOrder(linear, hadamard, num_threads));
}

}  // namespace

Result<LayerResult> QuantizeLayer(Backend& backend, const FloatLayer& layer,
                                  const ActivationStatistics& qkv, CalibrationStreams& streams,
                                  const LayerQuantizerOptions& options) {
  Quantizer quantizer(backend, layer, streams, options);
  LayerResult result;
  COMET_RETURN_IF_ERROR(quantizer.Quantize(LinearKind::kQkv, qkv, result));
  for (const LinearKind kind : {LinearKind::kO, LinearKind::kGateUp, LinearKind::kDown}) {
    COMET_ASSIGN_OR_RETURN(const ActivationStatistics seen, quantizer.See(kind));
    COMET_RETURN_IF_ERROR(quantizer.Quantize(kind, seen, result));
  }
  QuantizedLayer& out = result.layer;
  out.input_norm = layer.input_norm;
  out.post_attention_norm = layer.post_attention_norm;
  out.down_hadamard = options.down_hadamard;
  FoldDownOrder(out.down.gather, out.gate_up,
                result.residuals[static_cast<size_t>(LinearKind::kGateUp)]);
  out.down.gather.clear();
  return result;
}

}  // namespace comet
