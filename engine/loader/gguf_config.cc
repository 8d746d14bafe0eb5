#include "engine/loader/gguf_config.h"

#include <string>

#include "engine/loader/gguf_vocabulary.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

Status CheckArchitecture(const GgufFile& file) {
  COMET_ASSIGN_OR_RETURN(const std::optional<std::string> architecture,
                         file.FindString("general.architecture"));
  if (!architecture.has_value()) {
    return DataLoss(StrCat(file.path(), ": general.architecture: is absent, expected a string"));
  }
  if (*architecture != "llama") {
    return Unimplemented(StrCat(file.path(), ": general.architecture: is \"", *architecture,
                                "\", expected \"llama\""));
  }
  return Status::Ok();
}

// Keys that some llama-architecture files carry and that are harmless only when zero.
Status CheckUnsupportedKeys(const GgufFile& file) {
  static constexpr std::string_view kIntKeys[] = {"llama.expert_count",
                                                  "llama.attention.sliding_window"};
  for (const std::string_view key : kIntKeys) {
    COMET_ASSIGN_OR_RETURN(const std::optional<int64_t> value, file.FindInt(key));
    if (value.value_or(0) != 0) {
      return Unimplemented(StrCat(file.path(), ": ", key, ": is ", *value, ", expected 0"));
    }
  }
  static constexpr std::string_view kFloatKeys[] = {"llama.logit_scale", "llama.embedding_scale",
                                                    "llama.residual_scale", "llama.attention.scale",
                                                    "llama.attention.clamp_kqv"};
  for (const std::string_view key : kFloatKeys) {
    COMET_ASSIGN_OR_RETURN(const std::optional<double> value, file.FindFloat(key));
    if (value.value_or(0.0) != 0.0) {
      return Unimplemented(StrCat(file.path(), ": ", key, ": is ", *value, ", expected none"));
    }
  }
  return Status::Ok();
}

// `default_value` below 0 makes the key required.
Result<int> ReadDimension(const GgufFile& file, std::string_view key, int64_t value_max,
                          int default_value = -1) {
  COMET_ASSIGN_OR_RETURN(const std::optional<int64_t> value, file.FindInt(key));
  if (!value.has_value()) {
    if (default_value >= 0) return default_value;
    return DataLoss(StrCat(file.path(), ": ", key, ": is absent, expected an integer"));
  }
  if (*value < 1 || *value > value_max) {
    return DataLoss(StrCat(file.path(), ": ", key, ": is ", *value, ", expected 1 to ", value_max));
  }
  return static_cast<int>(*value);
}

Status ReadHeads(const GgufFile& file, ModelConfig& config) {
  COMET_ASSIGN_OR_RETURN(config.num_heads,
                         ReadDimension(file, "llama.attention.head_count", kModelHeadsMax));
  COMET_ASSIGN_OR_RETURN(config.num_kv_heads, ReadDimension(file, "llama.attention.head_count_kv",
                                                            kModelHeadsMax, config.num_heads));
  COMET_ASSIGN_OR_RETURN(config.head_dim,
                         ReadDimension(file, "llama.attention.key_length", kHeadDimMax,
                                       config.hidden_size / config.num_heads));
  COMET_ASSIGN_OR_RETURN(const int value_dim, ReadDimension(file, "llama.attention.value_length",
                                                            kHeadDimMax, config.head_dim));
  COMET_ASSIGN_OR_RETURN(config.rotary_dim, ReadDimension(file, "llama.rope.dimension_count",
                                                          kHeadDimMax, config.head_dim));
  if (value_dim != config.head_dim) {
    return Unimplemented(StrCat(file.path(), ": llama.attention.value_length: is ", value_dim,
                                ", expected the keys' ", config.head_dim));
  }
  return Status::Ok();
}

Status ReadRope(const GgufFile& file, ModelConfig& config) {
  COMET_ASSIGN_OR_RETURN(const std::optional<double> theta, file.FindFloat("llama.rope.freq_base"));
  config.rope.theta = theta.value_or(10000.0);
  COMET_ASSIGN_OR_RETURN(const std::optional<std::string> type,
                         file.FindString("llama.rope.scaling.type"));
  COMET_ASSIGN_OR_RETURN(const std::optional<double> factor,
                         file.FindFloat("llama.rope.scaling.factor"));
  COMET_ASSIGN_OR_RETURN(const std::optional<double> old_linear,
                         file.FindFloat("llama.rope.scale_linear"));
  if (type.has_value() && *type != "none" && *type != "linear") {
    return Unimplemented(StrCat(file.path(), ": llama.rope.scaling.type: is \"", *type,
                                "\", expected \"none\" or \"linear\""));
  }
  const bool is_linear = type.value_or("linear") == "linear";
  const double linear_factor = factor.value_or(old_linear.value_or(1.0));
  if (!is_linear || linear_factor == 0.0 || linear_factor == 1.0) return Status::Ok();
  config.rope.type = "linear";
  config.rope.factor = linear_factor;
  return Status::Ok();
}

Status ReadVocabSize(const GgufFile& file, ModelConfig& config) {
  const GgufTensor* embedding = file.FindTensor("token_embd.weight");
  if (embedding == nullptr) {
    return DataLoss(StrCat(file.path(), ": token_embd.weight: is absent, expected a tensor"));
  }
  if (embedding->dims.size() != 2 || embedding->dims[1] != config.hidden_size ||
      embedding->dims[0] > kVocabSizeMax) {
    return DataLoss(StrCat(file.path(), ": token_embd.weight: has ", embedding->dims.size(),
                           " dimensions, ", embedding->dims.back(), " columns, expected 2 and ",
                           config.hidden_size));
  }
  config.vocab_size = embedding->dims[0];
  config.tied_embeddings = file.FindTensor("output.weight") == nullptr;
  return Status::Ok();
}

}  // namespace

Result<ModelConfig> ReadGgufConfig(const GgufFile& file) {
  COMET_RETURN_IF_ERROR(CheckArchitecture(file));
  COMET_RETURN_IF_ERROR(CheckUnsupportedKeys(file));
  ModelConfig config;
  COMET_ASSIGN_OR_RETURN(const std::optional<std::string> name, file.FindString("general.name"));
  config.name = name.value_or("llama");
  COMET_ASSIGN_OR_RETURN(config.hidden_size,
                         ReadDimension(file, "llama.embedding_length", kModelDimMax));
  COMET_ASSIGN_OR_RETURN(config.num_layers,
                         ReadDimension(file, "llama.block_count", kModelLayersMax));
  COMET_ASSIGN_OR_RETURN(config.ffn_size,
                         ReadDimension(file, "llama.feed_forward_length", kModelDimMax));
  COMET_ASSIGN_OR_RETURN(config.context_length_max,
                         ReadDimension(file, "llama.context_length", kModelContextMax));
  COMET_RETURN_IF_ERROR(ReadHeads(file, config));
  COMET_RETURN_IF_ERROR(ReadRope(file, config));
  COMET_RETURN_IF_ERROR(ReadVocabSize(file, config));
  COMET_ASSIGN_OR_RETURN(const std::optional<double> epsilon,
                         file.FindFloat("llama.attention.layer_norm_rms_epsilon"));
  config.rms_norm_epsilon = static_cast<float>(epsilon.value_or(1e-5));
  COMET_ASSIGN_OR_RETURN(config.eos_ids, ReadEosIds(file));
  const Status valid = config.Validate();
  if (!valid.ok()) return DataLoss(StrCat(file.path(), ": ", valid.message()));
  return config;
}

}  // namespace comet
