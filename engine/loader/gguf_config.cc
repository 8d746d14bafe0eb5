#include "engine/loader/gguf_config.h"

#include <cmath>
#include <optional>
#include <string_view>

#include "engine/loader/gguf_vocabulary.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

class GgufConfigReader {
 public:
  explicit GgufConfigReader(const GgufFile& file) : file_(file) {}

  Result<GgufConfig> Read();

 private:
  Status ReadArchitecture();
  Status CheckUnsupportedKeys() const;
  Status ReadHeads();
  Status ReadRope();
  Status ReadLinear();
  Status ReadYarn();
  Status ReadVocabSize();
  // `default_value` below 0 makes the key required.
  Status ReadDimension(std::string_view name, int64_t value_max, int& out,
                       int default_value = -1) const;
  Status ReadFloat(std::string_view name, double& out) const;

  ModelConfig& model() { return config_.model; }
  std::string Key(std::string_view name) const { return StrCat(config_.architecture, ".", name); }
  Status Fail(std::string_view name, std::string_view problem) const {
    return DataLoss(StrCat(file_.path(), ": ", name, ": ", problem));
  }

  const GgufFile& file_;
  GgufConfig config_;
};

Result<GgufConfig> GgufConfigReader::Read() {
  COMET_RETURN_IF_ERROR(ReadArchitecture());
  COMET_RETURN_IF_ERROR(CheckUnsupportedKeys());
  COMET_ASSIGN_OR_RETURN(const std::optional<std::string> name, file_.FindString("general.name"));
  model().name = name.value_or(config_.architecture);
  COMET_RETURN_IF_ERROR(ReadDimension("embedding_length", kModelDimMax, model().hidden_size));
  COMET_RETURN_IF_ERROR(ReadDimension("block_count", kModelLayersMax, model().num_layers));
  COMET_RETURN_IF_ERROR(ReadDimension("feed_forward_length", kModelDimMax, model().ffn_size));
  COMET_RETURN_IF_ERROR(
      ReadDimension("context_length", kModelContextMax, model().context_length_max));
  COMET_RETURN_IF_ERROR(ReadHeads());
  COMET_RETURN_IF_ERROR(ReadRope());
  COMET_RETURN_IF_ERROR(ReadVocabSize());
  double epsilon = 1e-5;
  COMET_RETURN_IF_ERROR(ReadFloat("attention.layer_norm_rms_epsilon", epsilon));
  model().rms_norm_epsilon = static_cast<float>(epsilon);
  COMET_ASSIGN_OR_RETURN(model().eos_ids, ReadEosIds(file_));
  const Status valid = model().Validate();
  if (!valid.ok()) return DataLoss(StrCat(file_.path(), ": ", valid.message()));
  return std::move(config_);
}

Status GgufConfigReader::ReadArchitecture() {
  constexpr std::string_view kArchitectureKey = "general.architecture";
  COMET_ASSIGN_OR_RETURN(const std::optional<std::string> architecture,
                         file_.FindString(kArchitectureKey));
  if (!architecture.has_value()) return Fail(kArchitectureKey, "is absent, expected a string");
  if (*architecture != "llama" && *architecture != "qwen2") {
    return Unimplemented(StrCat(file_.path(), ": ", kArchitectureKey, ": is \"",
                                architecture->substr(0, 60),
                                "\", expected \"llama\" or \"qwen2\""));
  }
  config_.architecture = *architecture;
  config_.has_rotary_pairs = *architecture == "llama";
  return Status::Ok();
}

// Keys that some files carry and that are harmless only when zero.
Status GgufConfigReader::CheckUnsupportedKeys() const {
  const std::string expert_count = Key("expert_count");
  COMET_ASSIGN_OR_RETURN(const std::optional<int64_t> experts, file_.FindInt(expert_count));
  if (experts.value_or(0) != 0) {
    return Unimplemented(
        StrCat(file_.path(), ": ", expert_count, ": is ", *experts, ", expected 0"));
  }
  static constexpr std::string_view kFloatNames[] = {
      "logit_scale", "embedding_scale", "residual_scale", "attention.scale", "attention.clamp_kqv"};
  for (const std::string_view name : kFloatNames) {
    COMET_ASSIGN_OR_RETURN(const std::optional<double> value, file_.FindFloat(Key(name)));
    if (value.value_or(0.0) != 0.0) {
      return Unimplemented(
          StrCat(file_.path(), ": ", Key(name), ": is ", *value, ", expected none"));
    }
  }
  return Status::Ok();
}

Status GgufConfigReader::ReadDimension(std::string_view name, int64_t value_max, int& out,
                                       int default_value) const {
  COMET_ASSIGN_OR_RETURN(const std::optional<int64_t> value, file_.FindInt(Key(name)));
  if (!value.has_value() && default_value < 0) {
    return Fail(Key(name), "is absent, expected an integer");
  }
  if (value.has_value() && (*value < 1 || *value > value_max)) {
    return Fail(Key(name), StrCat("is ", *value, ", expected 1 to ", value_max));
  }
  out = static_cast<int>(value.value_or(default_value));
  return Status::Ok();
}

Status GgufConfigReader::ReadFloat(std::string_view name, double& out) const {
  COMET_ASSIGN_OR_RETURN(const std::optional<double> value, file_.FindFloat(Key(name)));
  out = value.value_or(out);
  return Status::Ok();
}

Status GgufConfigReader::ReadHeads() {
  COMET_RETURN_IF_ERROR(ReadDimension("attention.head_count", kModelHeadsMax, model().num_heads));
  COMET_RETURN_IF_ERROR(ReadDimension("attention.head_count_kv", kModelHeadsMax,
                                      model().num_kv_heads, model().num_heads));
  COMET_RETURN_IF_ERROR(ReadDimension("attention.key_length", kHeadDimMax, model().head_dim,
                                      model().hidden_size / model().num_heads));
  int value_dim = 0;
  COMET_RETURN_IF_ERROR(
      ReadDimension("attention.value_length", kHeadDimMax, value_dim, model().head_dim));
  COMET_RETURN_IF_ERROR(
      ReadDimension("rope.dimension_count", kHeadDimMax, model().rotary_dim, model().head_dim));
  if (value_dim != model().head_dim) {
    return Unimplemented(StrCat(file_.path(), ": ", Key("attention.value_length"), ": is ",
                                value_dim, ", expected the keys' ", model().head_dim));
  }
  COMET_ASSIGN_OR_RETURN(const std::optional<int64_t> window,
                         file_.FindInt(Key("attention.sliding_window")));
  if (window.value_or(0) == 0) return Status::Ok();
  return ReadDimension("attention.sliding_window", kModelContextMax, model().sliding_window);
}

Status GgufConfigReader::ReadRope() {
  COMET_RETURN_IF_ERROR(ReadFloat("rope.freq_base", model().rope.theta));
  const std::string key = Key("rope.scaling.type");
  COMET_ASSIGN_OR_RETURN(const std::optional<std::string> type, file_.FindString(key));
  const std::string scaling = type.value_or("linear");
  if (scaling == "linear") return ReadLinear();
  if (scaling == "yarn") return ReadYarn();
  if (scaling == "none") return Status::Ok();
  return Unimplemented(StrCat(file_.path(), ": ", key, ": is \"", scaling.substr(0, 60),
                              "\", expected \"none\", \"linear\" or \"yarn\""));
}

Status GgufConfigReader::ReadLinear() {
  double factor = 1.0;
  COMET_RETURN_IF_ERROR(ReadFloat("rope.scale_linear", factor));  // The older key.
  COMET_RETURN_IF_ERROR(ReadFloat("rope.scaling.factor", factor));
  if (factor == 0.0 || factor == 1.0) return Status::Ok();
  model().rope.type = "linear";
  model().rope.factor = factor;
  return Status::Ok();
}

Status GgufConfigReader::ReadYarn() {
  RopeConfig& rope = model().rope;
  rope.type = "yarn";
  COMET_RETURN_IF_ERROR(ReadFloat("rope.scaling.factor", rope.factor));
  COMET_RETURN_IF_ERROR(ReadDimension("rope.scaling.original_context_length", kModelContextMax,
                                      rope.original_context_max, model().context_length_max));
  COMET_RETURN_IF_ERROR(ReadFloat("rope.scaling.yarn_beta_fast", rope.beta_fast));
  COMET_RETURN_IF_ERROR(ReadFloat("rope.scaling.yarn_beta_slow", rope.beta_slow));
  const std::string key = Key("rope.scaling.yarn_ext_factor");
  // How much of the frequencies that YaRN keeps is kept: at 0 every one is divided.
  COMET_ASSIGN_OR_RETURN(const std::optional<double> extrapolation, file_.FindFloat(key));
  if (extrapolation.value_or(1.0) != 1.0) {
    return Unimplemented(StrCat(file_.path(), ": ", key, ": is ", *extrapolation, ", expected 1"));
  }
  double attention_factor = 1.0;
  double yarn_factor = 1.0;
  COMET_RETURN_IF_ERROR(ReadFloat("rope.scaling.attn_factor", attention_factor));
  COMET_RETURN_IF_ERROR(ReadFloat("rope.scaling.yarn_attn_factor", yarn_factor));
  const double scale = rope.factor > 1.0 ? 1.0 + 0.1 * std::log(rope.factor) : 1.0;
  rope.attention_factor = attention_factor * yarn_factor * scale;
  return Status::Ok();
}

Status GgufConfigReader::ReadVocabSize() {
  constexpr std::string_view kEmbedding = "token_embd.weight";
  const GgufTensor* embedding = file_.FindTensor(kEmbedding);
  if (embedding == nullptr) return Fail(kEmbedding, "is absent, expected a tensor");
  if (embedding->dims.size() != 2 || embedding->dims[1] != model().hidden_size ||
      embedding->dims[0] > kVocabSizeMax) {
    return Fail(kEmbedding,
                StrCat("has ", embedding->dims.size(), " dimensions, ", embedding->dims.back(),
                       " columns, expected 2 and ", model().hidden_size));
  }
  model().vocab_size = embedding->dims[0];
  model().tied_embeddings = file_.FindTensor("output.weight") == nullptr;
  return Status::Ok();
}

}  // namespace

Result<GgufConfig> ReadGgufConfig(const GgufFile& file) { return GgufConfigReader(file).Read(); }

}  // namespace comet
