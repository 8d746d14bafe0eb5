#include "engine/quantizer/accuracy_report.h"

#include <nlohmann/json.hpp>

#include "engine/quantizer/layer_linears.h"

namespace comet {
namespace {

using nlohmann::ordered_json;

ordered_json Json(const LinearAccuracy& linear) {
  return {{"weight_error", linear.weight_error},
          {"output_error_8", linear.output_error_8},
          {"output_error_mixed", linear.output_error_mixed},
          {"int4_share", linear.int4_share},
          {"bits", linear.bits}};
}

}  // namespace

LinearAccuracy AccuracyReport::Mean() const {
  LinearAccuracy mean;
  for (const LayerAccuracy& layer : layers) {
    for (const LinearAccuracy* linear : LinearsOf(layer)) {
      const double weight = 1.0 / (4.0 * static_cast<double>(layers.size()));
      mean.weight_error += weight * linear->weight_error;
      mean.output_error_8 += weight * linear->output_error_8;
      mean.output_error_mixed += weight * linear->output_error_mixed;
      mean.num_weights += linear->num_weights;
      mean.int4_share += linear->num_weights * linear->int4_share;
      mean.bits += linear->num_weights * linear->bits;
    }
  }
  if (mean.num_weights > 0.0) {
    mean.int4_share /= mean.num_weights;
    mean.bits /= mean.num_weights;
  }
  return mean;
}

std::string AccuracyReport::ToJson() const {
  ordered_json layer_items = ordered_json::array();
  for (const LayerAccuracy& layer : layers) {
    layer_items.push_back({{"qkv", Json(layer.qkv)},
                           {"o", Json(layer.o)},
                           {"gate_up", Json(layer.gate_up)},
                           {"down", Json(layer.down)},
                           {"k_bits", layer.kv.k_bits},
                           {"v_bits", layer.kv.v_bits},
                           {"key_error_plain", layer.keys.plain_error},
                           {"key_error_hadamard", layer.keys.hadamard_error},
                           {"keys_smoothed", layer.keys.is_smoothed},
                           {"value_error", layer.value_error}});
  }
  // dump() writes what is no number as null.
  const ordered_json held_out_json = {{"predictions", held_out.num_predictions},
                                      {"perplexity_float", held_out.source},
                                      {"perplexity_8", held_out.int8},
                                      {"perplexity_mixed", held_out.mixed}};
  const ordered_json json = {{"calibration_tokens", num_calibration_tokens},
                             {"sample_tokens", num_sample_tokens},
                             {"lm_head_weight_error", lm_head_error},
                             {"tuning_steps", tuning.num_steps},
                             {"tuning_codes", tuning.has_codes},
                             {"tuning_first_divergence", tuning.first_loss},
                             {"tuning_last_divergence", tuning.last_loss},
                             {"held_out", held_out_json},
                             {"mean", Json(Mean())},
                             {"layers", std::move(layer_items)}};
  return json.dump(2) + "\n";
}

}  // namespace comet
