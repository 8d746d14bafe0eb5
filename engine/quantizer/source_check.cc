#include "engine/quantizer/source_check.h"

#include <cmath>
#include <cstddef>

#include "kernels/base/str_cat.h"

namespace comet {

Status CheckVocabulary(const ModelConfig& config, const Vocabulary& vocabulary) {
  if (vocabulary.pieces.size() <= static_cast<size_t>(config.vocab_size)) return Status::Ok();
  return InvalidArgument(StrCat("vocabulary: has ", vocabulary.pieces.size(),
                                " tokens, expected at most ", config.vocab_size,
                                ", the rows of the model's embedding"));
}

Status CheckTensor(std::string_view name, const std::vector<float>& values, size_t expected_size) {
  if (values.size() != expected_size) {
    return DataLoss(StrCat(name, ": has ", values.size(), " values, expected ", expected_size));
  }
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return DataLoss(StrCat(name, ": value ", i, " is ", values[i], ", expected a finite number"));
  }
  return Status::Ok();
}

Status CheckLayer(const ModelConfig& config, int layer_idx, const FloatLayer& layer) {
  const size_t hidden = static_cast<size_t>(config.hidden_size);
  const size_t qkv = static_cast<size_t>(config.qkv_size());
  const size_t q = static_cast<size_t>(config.q_size());
  const size_t ffn = static_cast<size_t>(config.ffn_size);
  const auto check = [&](std::string_view name, const std::vector<float>& values, size_t size) {
    return CheckTensor(StrCat("layer ", layer_idx, " ", name), values, size);
  };
  COMET_RETURN_IF_ERROR(check("input_norm", layer.input_norm, hidden));
  COMET_RETURN_IF_ERROR(check("qkv", layer.qkv, qkv * hidden));
  if (!layer.qkv_bias.empty()) COMET_RETURN_IF_ERROR(check("qkv_bias", layer.qkv_bias, qkv));
  COMET_RETURN_IF_ERROR(check("o", layer.o, hidden * q));
  COMET_RETURN_IF_ERROR(check("post_attention_norm", layer.post_attention_norm, hidden));
  COMET_RETURN_IF_ERROR(check("gate_up", layer.gate_up, 2 * ffn * hidden));
  return check("down", layer.down, hidden * ffn);
}

}  // namespace comet
