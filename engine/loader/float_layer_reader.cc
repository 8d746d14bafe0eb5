#include "engine/loader/float_layer_reader.h"

#include <cmath>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// One part of a stack of rows.
struct Part {
  const std::string& name;
  int num_rows;
};

Result<std::vector<float>> ReadStack(std::initializer_list<Part> parts, std::string_view suffix,
                                     int num_columns, const TensorReader& read) {
  size_t num_values = 0;
  for (const Part& part : parts) {
    num_values += static_cast<size_t>(part.num_rows) * static_cast<size_t>(num_columns);
  }
  std::vector<float> values(num_values);
  std::span<float> left(values);
  for (const Part& part : parts) {
    const size_t size = static_cast<size_t>(part.num_rows) * static_cast<size_t>(num_columns);
    COMET_RETURN_IF_ERROR(read(part.name, suffix, left.first(size)));
    left = left.subspan(size);
  }
  return values;
}

}  // namespace

Result<FloatLayer> ReadFloatLayer(const ModelConfig& config, const LayerNames& names,
                                  bool has_qkv_bias, const TensorReader& read) {
  constexpr std::string_view kWeight = ".weight";
  const int hidden = config.hidden_size;
  const int ffn = config.ffn_size;
  const std::initializer_list<Part> qkv = {
      {names.q, config.q_size()}, {names.k, config.kv_size()}, {names.v, config.kv_size()}};
  FloatLayer layer;
  COMET_ASSIGN_OR_RETURN(layer.input_norm,
                         ReadStack({{names.input_norm, hidden}}, kWeight, 1, read));
  COMET_ASSIGN_OR_RETURN(layer.qkv, ReadStack(qkv, kWeight, hidden, read));
  if (has_qkv_bias) {
    COMET_ASSIGN_OR_RETURN(layer.qkv_bias, ReadStack(qkv, ".bias", 1, read));
  }
  COMET_ASSIGN_OR_RETURN(layer.o, ReadStack({{names.o, hidden}}, kWeight, config.q_size(), read));
  COMET_ASSIGN_OR_RETURN(layer.post_attention_norm,
                         ReadStack({{names.post_attention_norm, hidden}}, kWeight, 1, read));
  COMET_ASSIGN_OR_RETURN(layer.gate_up,
                         ReadStack({{names.gate, ffn}, {names.up, ffn}}, kWeight, hidden, read));
  COMET_ASSIGN_OR_RETURN(layer.down, ReadStack({{names.down, hidden}}, kWeight, ffn, read));
  return layer;
}

Status CheckFinite(std::string_view where, std::span<const float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return DataLoss(StrCat(where, ": value ", i, " is ", values[i], ", expected a finite number"));
  }
  return Status::Ok();
}

}  // namespace comet
