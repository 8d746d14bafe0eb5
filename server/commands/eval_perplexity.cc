#include "server/commands/eval_perplexity.h"

#include <cstdio>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/evaluation/perplexity.h"
#include "kernels/base/str_cat.h"
#include "server/commands/accuracy_chart.h"
#include "server/commands/progress.h"

namespace comet {
namespace {

struct Row {
  std::string label;
  std::string model;
  PerplexityResult result;
};

Result<Row> Evaluate(const EvalPerplexityOptions& options, const EvalRow& planned,
                     const std::string& text) {
  COMET_ASSIGN_OR_RETURN(EvalModel opened, EvalModel::Open(planned, options.model.backend));
  COMET_ASSIGN_OR_RETURN(std::vector<int> ids,
                         opened.tokenizer->Encode(text, {.add_special = true}));
  // The protocol has one BOS and no EOS.
  if (opened.tokenizer->vocabulary().add_eos) ids.pop_back();

  const PerplexityOptions perplexity{.window_tokens = options.context,
                                     .windows_max = options.windows};
  COMET_ASSIGN_OR_RETURN(
      const std::unique_ptr<Model> model,
      opened.source.Load(opened.backend, opened.precision, PerplexityLimits(perplexity)));
  Row row{.label = opened.Describe(), .model = planned.path, .result = {}};
  Progress progress(row.label);
  COMET_ASSIGN_OR_RETURN(
      row.result, EvaluatePerplexity(*opened.backend.device, *model, ids, perplexity,
                                     [&](int done, int all, double mean_nll) {
                                       progress.Update(done, all, StrCat("mean nll ", mean_nll));
                                     }));
  return row;
}

// The first row is the reference when there is one.
double OverReference(const std::vector<Row>& rows, size_t row_idx) {
  return rows[row_idx].result.perplexity / rows.front().result.perplexity - 1.0;
}

void PrintTable(const std::vector<Row>& rows, bool has_reference) {
  std::printf("%-52s %10s %9s %10s %8s %11s %9s\n", "setting", "perplexity", "over ref", "mean nll",
              "windows", "predictions", "seconds");
  for (size_t i = 0; i < rows.size(); ++i) {
    const PerplexityResult& result = rows[i].result;
    char over[16] = "";
    if (has_reference && i > 0) {
      std::snprintf(over, sizeof(over), "%+.2f %%", 100.0 * OverReference(rows, i));
    }
    std::printf("%-52s %10.4f %9s %10.5f %8d %11lld %9.1f\n", rows[i].label.c_str(),
                result.perplexity, over, result.mean_nll, result.num_windows,
                static_cast<long long>(result.num_predictions), result.seconds);
  }
  for (const Row& row : rows) {
    if (row.result.num_nonfinite_rows == 0) continue;
    std::printf("warning: %lld predictions of \"%s\" had NaN or infinite logits\n",
                static_cast<long long>(row.result.num_nonfinite_rows), row.label.c_str());
  }
}

void PrintJson(const std::vector<Row>& rows, bool has_reference) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    json.push_back({{"model", row.model},
                    {"setting", row.label},
                    {"perplexity", row.result.perplexity},
                    {"mean_nll", row.result.mean_nll},
                    {"windows", row.result.num_windows},
                    {"predictions", row.result.num_predictions},
                    {"nonfinite_rows", row.result.num_nonfinite_rows},
                    {"seconds", row.result.seconds}});
    if (has_reference && i > 0) json.back()["over_reference"] = OverReference(rows, i);
  }
  std::printf("%s\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

}  // namespace

Status RunEvalPerplexity(const EvalPerplexityOptions& options) {
  if (options.context < 2) {
    return InvalidArgument(StrCat("eval: context is ", options.context, ", expected at least 2"));
  }
  COMET_ASSIGN_OR_RETURN(const std::vector<EvalRow> planned, options.model.Rows());
  COMET_ASSIGN_OR_RETURN(const std::string text, ReadEvalText(options.text));
  if (!options.svg.empty()) {
    COMET_RETURN_IF_ERROR(WriteAccuracyChart(options.model.model, options.svg));
  }
  const bool has_reference = !options.model.reference.empty();
  std::vector<Row> rows;
  for (const EvalRow& row : planned) {
    COMET_ASSIGN_OR_RETURN(Row evaluated, Evaluate(options, row, text));
    rows.push_back(std::move(evaluated));
  }
  options.json ? PrintJson(rows, has_reference) : PrintTable(rows, has_reference);
  return Status::Ok();
}

}  // namespace comet
