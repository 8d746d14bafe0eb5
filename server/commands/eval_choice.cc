#include "server/commands/eval_choice.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <span>
#include <utility>

#include <nlohmann/json.hpp>

#include "engine/evaluation/choice.h"
#include "engine/evaluation/choice_items.h"
#include "kernels/base/str_cat.h"
#include "server/commands/progress.h"

namespace comet {
namespace {

// The items of every file, one after the other.
struct ItemSet {
  struct File {
    std::string name;
    size_t first = 0;
    size_t count = 0;
  };
  std::vector<File> files;
  std::vector<ChoiceItem> items;
};

// One model at one setting over the whole set.
struct Row {
  std::string label;
  std::string model;
  std::vector<ItemScore> scores;
  double seconds = 0.0;
};

// One line of the table: a file, or all items.
struct Summary {
  std::string name;
  int num_items = 0;
  Estimate accuracy;
  Estimate difference;  // Of the reference; both 0 without one.
  int num_nonfinite = 0;
};

Result<ChoiceNormalisation> ParseNormalisation(const std::string& text) {
  if (text == "bytes") return ChoiceNormalisation::kBytes;
  if (text == "tokens") return ChoiceNormalisation::kTokens;
  if (text == "none") return ChoiceNormalisation::kNone;
  return InvalidArgument(
      StrCat("normalise: is \"", text, "\", expected \"bytes\", \"tokens\" or \"none\""));
}

Result<ItemSet> ReadItems(const EvalChoiceOptions& options) {
  ItemSet set;
  for (const std::string& path : options.files) {
    COMET_ASSIGN_OR_RETURN(const std::string text, ReadEvalText(path));
    COMET_ASSIGN_OR_RETURN(std::vector<ChoiceItem> items,
                           ParseChoiceItems(path, text, options.limit));
    set.files.push_back({.name = std::filesystem::path(path).stem().string(),
                         .first = set.items.size(),
                         .count = items.size()});
    std::move(items.begin(), items.end(), std::back_inserter(set.items));
  }
  return set;
}

Result<Row> Evaluate(const EvalChoiceOptions& options, const EvalRow& planned, const ItemSet& set) {
  COMET_ASSIGN_OR_RETURN(EvalModel opened, EvalModel::Open(planned, options.model.backend));
  std::vector<TokenizedItem> items;
  for (const ChoiceItem& item : set.items) {
    COMET_ASSIGN_OR_RETURN(
        TokenizedItem tokenized,
        TokenizeChoiceItem(*opened.tokenizer, item, opened.source.config().context_length_max));
    items.push_back(std::move(tokenized));
  }
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model,
                         opened.source.Load(opened.backend, opened.precision, ChoiceLimits(items)));
  Row row{.label = opened.Describe(), .model = planned.path, .scores = {}};
  Progress progress(row.label);
  const auto started = std::chrono::steady_clock::now();
  COMET_ASSIGN_OR_RETURN(
      row.scores, ScoreChoices(*opened.backend.device, *model, items,
                               [&](int done, int all) { progress.Update(done, all, "items"); }));
  row.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return row;
}

Summary Summarise(std::string name, std::span<const ItemScore> scores,
                  std::span<const ItemScore> reference, ChoiceNormalisation normalisation) {
  Summary summary{.name = std::move(name), .num_items = static_cast<int>(scores.size())};
  summary.accuracy = Accuracy(scores, normalisation);
  summary.difference = PairedDifference(scores, reference, normalisation);
  summary.num_nonfinite = static_cast<int>(std::count_if(
      scores.begin(), scores.end(), [](const ItemScore& item) { return item.has_nonfinite(); }));
  return summary;
}

// The row by file and, last, over all items.
std::vector<Summary> SummariseRow(const ItemSet& set, const Row& row, const Row& reference,
                                  ChoiceNormalisation normalisation) {
  const std::span<const ItemScore> scores(row.scores);
  const std::span<const ItemScore> reference_scores(reference.scores);
  std::vector<Summary> summaries;
  for (const ItemSet::File& file : set.files) {
    summaries.push_back(Summarise(file.name, scores.subspan(file.first, file.count),
                                  reference_scores.subspan(file.first, file.count), normalisation));
  }
  if (set.files.size() > 1) {
    summaries.push_back(Summarise("all items", scores, reference_scores, normalisation));
  }
  return summaries;
}

void PrintTable(const std::vector<Row>& rows, const std::vector<std::vector<Summary>>& summaries,
                bool has_reference) {
  for (size_t i = 0; i < rows.size(); ++i) {
    std::printf("%s%s (%s), %.0f s\n", i > 0 ? "\n" : "", rows[i].label.c_str(),
                rows[i].model.c_str(), rows[i].seconds);
    const bool is_compared = has_reference && i > 0;
    std::printf("  %-24s %7s %10s %8s%s\n", "file", "items", "right", "+/-",
                is_compared ? "   over ref      +/-" : "");
    for (const Summary& summary : summaries[i]) {
      std::printf("  %-24s %7d %8.2f %% %8.2f", summary.name.c_str(), summary.num_items,
                  100.0 * summary.accuracy.mean, 100.0 * summary.accuracy.standard_error);
      if (is_compared) {
        std::printf("   %+8.2f %8.2f", 100.0 * summary.difference.mean,
                    100.0 * summary.difference.standard_error);
      }
      std::printf("\n");
      if (summary.num_nonfinite > 0) {
        std::printf("  warning: %d items of %s had NaN or infinite logits and count as wrong\n",
                    summary.num_nonfinite, summary.name.c_str());
      }
    }
  }
}

void PrintJson(const std::vector<Row>& rows, const std::vector<std::vector<Summary>>& summaries,
               const std::string& normalisation, bool has_reference) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (size_t i = 0; i < rows.size(); ++i) {
    nlohmann::ordered_json files = nlohmann::ordered_json::array();
    for (const Summary& summary : summaries[i]) {
      files.push_back({{"name", summary.name},
                       {"items", summary.num_items},
                       {"accuracy", summary.accuracy.mean},
                       {"standard_error", summary.accuracy.standard_error},
                       {"nonfinite_items", summary.num_nonfinite}});
      if (!has_reference || i == 0) continue;
      files.back()["over_reference"] = summary.difference.mean;
      files.back()["over_reference_standard_error"] = summary.difference.standard_error;
    }
    json.push_back({{"model", rows[i].model},
                    {"setting", rows[i].label},
                    {"normalisation", normalisation},
                    {"seconds", rows[i].seconds},
                    {"files", std::move(files)}});
  }
  std::printf("%s\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

}  // namespace

Status RunEvalChoice(const EvalChoiceOptions& options) {
  COMET_ASSIGN_OR_RETURN(const std::vector<EvalRow> planned, options.model.Rows());
  COMET_ASSIGN_OR_RETURN(const ChoiceNormalisation normalisation,
                         ParseNormalisation(options.normalisation));
  COMET_ASSIGN_OR_RETURN(const ItemSet set, ReadItems(options));
  const bool has_reference = !options.model.reference.empty();
  std::vector<Row> rows;
  for (const EvalRow& row : planned) {
    COMET_ASSIGN_OR_RETURN(Row evaluated, Evaluate(options, row, set));
    rows.push_back(std::move(evaluated));
  }
  std::vector<std::vector<Summary>> summaries;
  for (const Row& row : rows) {
    summaries.push_back(SummariseRow(set, row, rows.front(), normalisation));
  }
  options.json ? PrintJson(rows, summaries, options.normalisation, has_reference)
               : PrintTable(rows, summaries, has_reference);
  return Status::Ok();
}

}  // namespace comet
