#include "server/commands/eval.h"

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "engine/evaluation/perplexity.h"
#include "engine/model/model_source.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/str_cat.h"
#include "server/commands/progress.h"

namespace comet {
namespace {

struct Row {
  std::string label;
  std::string model;
  PerplexityResult result;
};

Result<std::string> ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return NotFound(StrCat("eval: cannot read text file ", path));
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

std::string Describe(const Precision& precision) {
  const std::string weights = precision.weights == WeightMode::kFloat ? "float" : "4-bit";
  const std::string kv = precision.kv_from_checkpoint
                             ? std::string("checkpoint")
                             : StrCat(precision.kv.k_bits, "/", precision.kv.v_bits);
  return StrCat("weights ", weights, ", activations ", ToString(precision.activations), ", KV ",
                kv);
}

Result<Row> Evaluate(const EvalPerplexityOptions& options, const std::string& path,
                     const std::string& activation_bits, const std::string& kv_bits,
                     const std::string& text) {
  COMET_ASSIGN_OR_RETURN(Backend backend, MakeBackend(options.backend));
  COMET_ASSIGN_OR_RETURN(ModelSource source, ModelSource::Open(path));
  COMET_ASSIGN_OR_RETURN(const Precision precision,
                         source.ChoosePrecision(activation_bits, kv_bits));
  COMET_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Create(source.vocabulary()));
  COMET_ASSIGN_OR_RETURN(std::vector<int> ids, tokenizer->Encode(text, {.add_special = true}));

  if (tokenizer->vocabulary().add_eos) ids.pop_back();  // The protocol has one BOS and no EOS.

  const PerplexityOptions perplexity{.window_tokens = options.context,
                                     .windows_max = options.windows};
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model,
                         source.Load(backend, precision, PerplexityLimits(perplexity)));
  Row row{.label = Describe(precision), .model = path, .result = {}};
  Progress progress(row.label);
  COMET_ASSIGN_OR_RETURN(
      row.result, EvaluatePerplexity(*backend.device, *model, ids, perplexity,
                                     [&](int done, int all, double mean_nll) {
                                       progress.Update(done, all, StrCat("mean nll ", mean_nll));
                                     }));
  return row;
}

void PrintTable(const std::vector<Row>& rows) {
  std::printf("%-52s %10s %10s %8s %11s %9s\n", "setting", "perplexity", "mean nll", "windows",
              "predictions", "seconds");
  for (const Row& row : rows) {
    std::printf("%-52s %10.4f %10.5f %8d %11lld %9.1f\n", row.label.c_str(), row.result.perplexity,
                row.result.mean_nll, row.result.num_windows,
                static_cast<long long>(row.result.num_predictions), row.result.seconds);
  }
  if (rows.size() == 2) {
    std::printf("perplexity over reference: %+.2f %%\n",
                100.0 * (rows[1].result.perplexity / rows[0].result.perplexity - 1.0));
  }
  for (const Row& row : rows) {
    if (row.result.num_nonfinite_rows == 0) continue;
    std::printf("warning: %lld predictions of \"%s\" had NaN or infinite logits\n",
                static_cast<long long>(row.result.num_nonfinite_rows), row.label.c_str());
  }
}

void PrintJson(const std::vector<Row>& rows) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const Row& row : rows) {
    json.push_back({{"model", row.model},
                    {"setting", row.label},
                    {"perplexity", row.result.perplexity},
                    {"mean_nll", row.result.mean_nll},
                    {"windows", row.result.num_windows},
                    {"predictions", row.result.num_predictions},
                    {"nonfinite_rows", row.result.num_nonfinite_rows},
                    {"seconds", row.result.seconds}});
  }
  std::printf("%s\n", json.dump(2).c_str());
}

}  // namespace

Status RunEvalPerplexity(const EvalPerplexityOptions& options) {
  if (options.context < 2) {
    return InvalidArgument(StrCat("eval: context is ", options.context, ", expected at least 2"));
  }
  COMET_ASSIGN_OR_RETURN(const std::string text, ReadText(options.text));
  std::vector<Row> rows;
  if (!options.reference.empty()) {
    COMET_ASSIGN_OR_RETURN(Row row, Evaluate(options, options.reference, "float", "16", text));
    rows.push_back(std::move(row));
  }
  COMET_ASSIGN_OR_RETURN(
      Row row, Evaluate(options, options.model, options.activation_bits, options.kv_bits, text));
  rows.push_back(std::move(row));
  options.json ? PrintJson(rows) : PrintTable(rows);
  return Status::Ok();
}

}  // namespace comet
