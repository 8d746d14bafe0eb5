#include "server/commands/eval_model.h"

#include <utility>

#include "engine/loader/mapped_file.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int64_t kTextBytesMax = int64_t{1} << 30;

}  // namespace

Result<EvalSetting> ParseEvalSetting(const std::string& text) {
  const size_t kv = text.find("/KV");
  if (text.empty() || text.front() != 'A' || kv == std::string::npos) {
    return InvalidArgument(StrCat("setting: is \"", text,
                                  "\", expected A<activation bits>/KV<KV bits> as in A8/KV4, "
                                  "Amixed/KV8/4 or Afloat/KV16"));
  }
  EvalSetting setting{.activation_bits = text.substr(1, kv - 1), .kv_bits = text.substr(kv + 3)};
  // Every setting is checked before the first is run.
  if (setting.activation_bits != "auto") {
    COMET_RETURN_IF_ERROR(ParseActivationMode(setting.activation_bits).status());
  }
  if (setting.kv_bits != "auto") COMET_RETURN_IF_ERROR(ParseKvFormat(setting.kv_bits).status());
  return setting;
}

Result<std::vector<EvalRow>> EvalModelOptions::Rows() const {
  std::vector<EvalRow> rows;
  if (!reference.empty()) rows.push_back({reference, {"float", "16"}});
  for (const std::string& text : settings) {
    COMET_ASSIGN_OR_RETURN(EvalSetting setting, ParseEvalSetting(text));
    rows.push_back({model, std::move(setting)});
  }
  if (settings.empty()) rows.push_back({model, {activation_bits, kv_bits}});
  return rows;
}

Result<EvalModel> EvalModel::Open(const EvalRow& row, const BackendOptions& backend_options) {
  COMET_ASSIGN_OR_RETURN(Backend backend, MakeBackend(backend_options));
  COMET_ASSIGN_OR_RETURN(ModelSource source, ModelSource::Open(row.path));
  COMET_ASSIGN_OR_RETURN(const Precision precision,
                         source.ChoosePrecision(row.setting.activation_bits, row.setting.kv_bits,
                                                backend.ops->HasInt4Products()));
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer,
                         Tokenizer::Create(source.vocabulary()));
  return EvalModel{.backend = std::move(backend),
                   .source = std::move(source),
                   .precision = precision,
                   .tokenizer = std::move(tokenizer)};
}

std::string EvalModel::Describe() const {
  const std::string weights = precision.weights == WeightMode::kFloat ? "float" : "4-bit";
  const std::string kv = precision.kv_from_checkpoint
                             ? std::string("checkpoint")
                             : StrCat(precision.kv.k_bits, "/", precision.kv.v_bits);
  return StrCat("weights ", weights, ", activations ", ToString(precision.activations), ", KV ",
                kv);
}

Result<std::string> ReadEvalText(const std::string& path) {
  return ReadTextFile(path, kTextBytesMax);
}

}  // namespace comet
