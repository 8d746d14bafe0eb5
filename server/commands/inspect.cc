#include "server/commands/inspect.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/loader/checkpoint.h"
#include "engine/loader/checkpoint_format.h"
#include "engine/loader/folder_config.h"
#include "engine/loader/json_reader.h"
#include "engine/loader/mapped_file.h"
#include "kernels/base/str_cat.h"
#include "server/commands/accuracy_chart.h"
#include "server/commands/inspect_source.h"

namespace comet {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kAccuracyBytesMax = 64 << 20;
constexpr int kAccuracyDepth = 8;

double BitsPerWeight(const W4axWeights& weights) {
  const double num_bytes = static_cast<double>(weights.codes.shape().num_elements() +
                                               weights.steps.shape().num_elements() +
                                               4 * weights.scale.shape().num_elements());
  return 8.0 * num_bytes / (2.0 * static_cast<double>(weights.codes.shape().num_elements()));
}

ordered_json LinearJson(const CheckpointLinear& linear) {
  const W4axWeights& weights = linear.weights;
  const float* scale = weights.scale.as<float>();
  const int num_outputs = weights.scale.dim(0);
  const int num_inputs = 2 * weights.codes.dim(1);
  const auto [low, high] = std::minmax_element(scale, scale + num_outputs);
  return {{"num_outputs", num_outputs},
          {"num_inputs", num_inputs},
          {"int4_share", static_cast<double>(weights.num_int4_channels) / num_inputs},
          {"bits", BitsPerWeight(weights)},
          {"scale_min", *low},
          {"scale_max", *high},
          {"clip", linear.clip}};
}

// The report beside the weights; null where a checkpoint has none.
Result<ordered_json> ReadAccuracy(const std::string& folder) {
  const std::string path = StrCat(folder, "/", kAccuracyFile);
  COMET_ASSIGN_OR_RETURN(const std::optional<std::string> text,
                         ReadOptionalTextFile(path, kAccuracyBytesMax));
  if (!text.has_value()) return ordered_json(nullptr);
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(path, *text, kAccuracyDepth));
  return ordered_json(json);
}

Result<ordered_json> DescribeCheckpoint(const std::string& folder) {
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::Open(folder));
  COMET_ASSIGN_OR_RETURN(ordered_json accuracy, ReadAccuracy(folder));
  ordered_json layers = ordered_json::array();
  for (int i = 0; i < checkpoint->config().num_layers; ++i) {
    const CheckpointLayer& layer = checkpoint->layer(i);
    layers.push_back({{"qkv", LinearJson(layer.qkv)},
                      {"o", LinearJson(layer.o)},
                      {"gate_up", LinearJson(layer.gate_up)},
                      {"down", LinearJson(layer.down)},
                      {"k_bits", layer.kv.k_bits},
                      {"v_bits", layer.kv.v_bits},
                      {"qk_hadamard", layer.qk_hadamard},
                      {"down_hadamard", layer.down_hadamard}});
  }
  ordered_json json = {{"format", "comet"}};
  // In GGUF's words, where Mistral's models are "llama" too.
  const bool has_qkv_bias = checkpoint->layer(0).qkv.bias.is_present();
  json.update(ConfigJson(checkpoint->config(), has_qkv_bias ? "qwen2" : "llama"));
  json["has_qkv_bias"] = has_qkv_bias;
  json["weights_bytes"] = checkpoint->num_bytes();
  json["has_chat_template"] = !checkpoint->chat_templates().empty();
  json["layers"] = std::move(layers);
  json["accuracy"] = std::move(accuracy);
  return json;
}

void PrintConfig(const ordered_json& json) {
  for (const auto& [key, value] : json.items()) {
    if (key == "layers" || key == "accuracy") continue;
    if (key == "unsupported") {
      for (const ordered_json& reason : value) {
        std::printf("%-20s %s\n", key.c_str(), reason.get<std::string>().c_str());
      }
      continue;
    }
    const std::string text =
        value.is_string() ? value.get<std::string>()
                          : value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
    std::printf("%-20s %s\n", key.c_str(), text.c_str());
  }
}

// One number of accuracy.json as text, "-" where the report has none.
std::string AccuracyText(const ordered_json& accuracy, size_t layer_idx, const char* linear,
                         const char* key) {
  const auto layers = accuracy.find("layers");
  if (layers == accuracy.end() || !layers->is_array() || layer_idx >= layers->size()) return "-";
  const ordered_json& layer = (*layers)[layer_idx];
  if (!layer.is_object() || !layer.contains(linear)) return "-";
  const ordered_json& item = layer[linear];
  if (!item.is_object() || !item.contains(key) || !item[key].is_number()) return "-";
  char text[32];
  std::snprintf(text, sizeof(text), "%.4f", item[key].get<double>());
  return text;
}

void PrintLayers(const ordered_json& json) {
  std::printf("\n%5s %-8s %6s %6s %10s %10s %5s %9s %9s %9s  %s\n", "layer", "linear", "INT4",
              "bits", "scale min", "scale max", "clip", "weights", "out 8", "out mixed", "KV");
  const ordered_json& layers = json["layers"];
  for (size_t i = 0; i < layers.size(); ++i) {
    const ordered_json& layer = layers[i];
    for (const char* name : {"qkv", "o", "gate_up", "down"}) {
      const ordered_json& linear = layer[name];
      const std::string kv = StrCat(layer["k_bits"].get<int>(), "/", layer["v_bits"].get<int>(),
                                    layer["qk_hadamard"].get<bool>() ? " hadamard" : "");
      std::printf("%5zu %-8s %5.1f%% %6.3f %10.3g %10.3g %5.2f %9s %9s %9s  %s\n", i, name,
                  100.0 * linear["int4_share"].get<double>(), linear["bits"].get<double>(),
                  linear["scale_min"].get<double>(), linear["scale_max"].get<double>(),
                  linear["clip"].get<double>(),
                  AccuracyText(json["accuracy"], i, name, "weight_error").c_str(),
                  AccuracyText(json["accuracy"], i, name, "output_error_8").c_str(),
                  AccuracyText(json["accuracy"], i, name, "output_error_mixed").c_str(),
                  kv.c_str());
    }
  }
}

}  // namespace

Status RunInspect(const InspectOptions& options) {
  const bool is_checkpoint = IsCometCheckpoint(options.path);
  if (!options.svg.empty() && !is_checkpoint) {
    return InvalidArgument(
        StrCat("inspect: ", options.path, " is not a comet checkpoint, as --svg needs"));
  }
  ordered_json json;
  Status usable = Status::Ok();
  if (is_checkpoint) {
    COMET_ASSIGN_OR_RETURN(json, DescribeCheckpoint(options.path));
  } else {
    COMET_RETURN_IF_ERROR(DescribeSource(options.path, json, usable));
  }
  if (!options.svg.empty()) {
    COMET_RETURN_IF_ERROR(WriteAccuracyChart(options.path, options.svg));
  }
  if (options.json) {
    const std::string text = json.dump(2, ' ', false, ordered_json::error_handler_t::replace);
    std::printf("%s\n", text.c_str());
    return usable;
  }
  PrintConfig(json);
  if (is_checkpoint) PrintLayers(json);
  return usable;
}

}  // namespace comet
