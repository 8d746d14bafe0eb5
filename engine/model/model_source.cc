#include "engine/model/model_source.h"

#include <algorithm>
#include <filesystem>

#include "engine/loader/checkpoint_writer.h"
#include "engine/loader/folder_config.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// Of f32 weights: the decoder's linear layers and the vocabulary tables. A checkpoint's own
// embedding stays f16.
int64_t FloatWeightsBytes(const ModelConfig& config, bool has_half_embedding) {
  const int64_t hidden = config.hidden_size;
  const int64_t layer = hidden * config.qkv_size() + hidden * config.q_size() +
                        3 * hidden * static_cast<int64_t>(config.ffn_size);
  const int64_t table = hidden * config.vocab_size;
  const int64_t embedding = config.tied_embeddings ? 0 : table * (has_half_embedding ? 2 : 4);
  return (layer * config.num_layers + table) * 4 + embedding;
}

}  // namespace

Result<ModelSource> ModelSource::Open(const std::string& path) {
  ModelSource source;
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    return NotFound(
        StrCat("model: ", path,
               " does not exist, expected a checkpoint, a Hugging Face folder or a GGUF file"));
  }
  if (error) return FailedPrecondition(StrCat("model: ", path, ": ", error.message()));
  if (std::filesystem::is_directory(status) && IsCometCheckpoint(path)) {
    COMET_ASSIGN_OR_RETURN(source.checkpoint_, Checkpoint::Open(path));
  } else {
    COMET_ASSIGN_OR_RETURN(source.float_source_, FloatSource::Open(path));
  }
  return source;
}

ModelSource ModelSource::Make(const SyntheticModel& synthetic) {
  ModelSource source;
  source.synthetic_ = std::make_unique<SyntheticModel>(synthetic);
  source.synthetic_vocabulary_ = synthetic.MakeVocabulary();
  return source;
}

const ModelConfig& ModelSource::config() const {
  if (synthetic_ != nullptr) return synthetic_->config;
  return checkpoint_ != nullptr ? checkpoint_->config() : float_source_->config();
}

const Vocabulary& ModelSource::vocabulary() const {
  if (synthetic_ != nullptr) return synthetic_vocabulary_;
  return checkpoint_ != nullptr ? checkpoint_->vocabulary() : float_source_->vocabulary();
}

const std::vector<NamedTemplate>& ModelSource::chat_templates() const {
  static const std::vector<NamedTemplate> kNone;
  if (synthetic_ != nullptr) return kNone;
  return checkpoint_ != nullptr ? checkpoint_->chat_templates() : float_source_->chat_templates();
}

Result<Precision> ModelSource::ChoosePrecision(const std::string& activation_bits,
                                               const std::string& kv_bits,
                                               bool has_int4_products) const {
  Precision precision;
  precision.weights = has_codes() ? WeightMode::kComet : WeightMode::kFloat;
  if (activation_bits != "auto") {
    COMET_ASSIGN_OR_RETURN(precision.activations, ParseActivationMode(activation_bits));
  } else {
    precision.activations = !has_codes()        ? ActivationMode::kFloat
                            : has_int4_products ? ActivationMode::kMixed
                                                : ActivationMode::kInt8;
  }
  precision.kv_from_checkpoint = has_codes() && kv_bits == "auto";
  if (kv_bits != "auto") {
    COMET_ASSIGN_OR_RETURN(precision.kv, ParseKvFormat(kv_bits));
  } else if (!has_codes()) {
    precision.kv = {.k_bits = 16, .v_bits = 16};
  }
  COMET_RETURN_IF_ERROR(precision.Validate());
  return precision;
}

int64_t ModelSource::WeightsBytes(const Precision& precision) const {
  if (precision.activations == ActivationMode::kFloat) {
    return FloatWeightsBytes(config(), has_codes());
  }
  if (synthetic_ != nullptr) return CheckpointWeightsBytes(config(), synthetic_->has_qkv_bias);
  return checkpoint_->num_bytes();
}

int64_t ModelSource::KvPageBytes(const Ops& ops, const Precision& precision) const {
  int64_t bytes = 0;
  for (int i = 0; i < config().num_layers; ++i) {
    const KvFormat& format = !precision.kv_from_checkpoint ? precision.kv
                             : synthetic_ != nullptr       ? synthetic_->kv
                                                           : checkpoint_->layer(i).kv;
    bytes += ops.KvPageBytes(format, config().num_kv_heads, config().head_dim);
  }
  return bytes;
}

Result<std::unique_ptr<Model>> ModelSource::Load(Backend& backend, const Precision& precision,
                                                 const ModelLimits& limits) {
  if (synthetic_ != nullptr) return Model::Load(backend, *synthetic_, precision, limits);
  if (checkpoint_ != nullptr) return Model::Load(backend, *checkpoint_, precision, limits);
  return Model::Load(backend, *float_source_, precision, limits);
}

int64_t ActivationsBytes(const Ops& ops, const ModelConfig& config, ActivationMode activations,
                         const ModelLimits& limits) {
  const bool is_float = activations == ActivationMode::kFloat;
  const int64_t inputs_max = std::max({config.hidden_size, config.q_size(), config.ffn_size});
  const int64_t values =
      config.hidden_size + config.qkv_size() + config.q_size() + 2 * config.ffn_size;
  const int64_t per_token = values * (is_float ? 4 : 2) + inputs_max * (is_float ? 4 : 1) + 16;
  const int64_t positions = static_cast<int64_t>(limits.pages_per_sequence_max) * kPageTokens;
  const int64_t logits = static_cast<int64_t>(limits.logits_rows_max) * config.vocab_size * 4;
  return per_token * limits.step_tokens_max + logits * (ops.UsesSampleScratch() ? 2 : 1) +
         positions * config.rotary_dim * 4 +
         ops.AttentionScratchBytes(static_cast<int>(positions), config.head_dim);
}

}  // namespace comet
