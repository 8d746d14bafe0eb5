#include "server/commands/quantize_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>

#include <nlohmann/json.hpp>

#include "engine/loader/checkpoint_writer.h"
#include "engine/quantizer/calibration.h"
#include "engine/quantizer/memory_estimate.h"
#include "engine/quantizer/model_shape.h"
#include "engine/quantizer/quantize_model.h"
#include "engine/quantizer/time_estimate.h"
#include "kernels/base/host_limits.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

struct Plan {
  ModelShape shape;
  CalibrationSize calibration;
  int num_threads = 1;
  int64_t memory_bytes = 0;
  std::optional<int64_t> memory_free_bytes;  // Absent: the host doesn't tell.
  int64_t disk_bytes = 0;
  std::optional<int64_t> disk_free_bytes;  // Absent: no output was named, or its disk doesn't tell.
  TuningOptions tuning;
  TuningSize tuning_size;
  bool is_tuned() const { return tuning_size.num_bytes > 0; }
  QuantizeWork work;
  QuantizeRates rates;
  double seconds = 0.0;
};

// Whether what is needed fits into what is free, where that is known.
std::optional<bool> Suffices(int64_t needed_bytes, std::optional<int64_t> free_bytes) {
  if (!free_bytes) return std::nullopt;
  return needed_bytes <= *free_bytes;
}

std::string Gigabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f GB", static_cast<double>(bytes) / 1e9);
  return text;
}

std::string Duration(double seconds) {
  char text[48];
  if (seconds < 120.0) {
    std::snprintf(text, sizeof(text), "%.0f s", seconds);
  } else if (seconds < 7200.0) {
    std::snprintf(text, sizeof(text), "%.0f min", seconds / 60.0);
  } else {
    std::snprintf(text, sizeof(text), "%.1f h", seconds / 3600.0);
  }
  return text;
}

// Of the folder that the output would appear in, or of what exists above it.
std::optional<int64_t> FreeDiskBytes(const std::string& output) {
  namespace fs = std::filesystem;
  if (output.empty()) return std::nullopt;
  std::error_code error;
  fs::path folder = fs::absolute(output, error).parent_path();
  while (!folder.empty() && folder != folder.root_path() && !fs::exists(folder, error)) {
    folder = folder.parent_path();
  }
  const fs::space_info space = fs::space(folder, error);
  if (error) return std::nullopt;
  return static_cast<int64_t>(space.available);
}

Result<Plan> MakePlan(const QuantizeOptions& options) {
  Plan plan;
  const HostLimits host = ReadHostLimits();
  plan.num_threads = options.backend.num_threads > 0 ? options.backend.num_threads : host.num_cpus;
  COMET_ASSIGN_OR_RETURN(plan.shape, ReadModelShape(options.source));
  // A text long enough for every limit.
  const QuantizeModelOptions defaults;
  plan.calibration = {.num_tokens = defaults.calibration.tokens_max,
                      .window_tokens_max = defaults.calibration.window_tokens,
                      .num_sample_tokens = defaults.sample_tokens_max,
                      .num_held_out_tokens = defaults.calibration.held_out_tokens_max};
  plan.tuning = defaults.tuning;
  plan.tuning.num_steps = options.tuning_steps;
  plan.tuning.code_rate = static_cast<float>(options.tuning_code_rate);
  plan.tuning_size =
      SizeOfTuning(plan.shape.config, plan.calibration.window_tokens_max, plan.tuning,
                   std::min(defaults.tuning_bytes_max, host.memory_free_bytes));
  plan.calibration.holds_layers = plan.is_tuned();
  plan.calibration.holds_residuals = plan.tuning_size.has_codes;
  if (plan.is_tuned()) plan.calibration.num_tuning_tokens = defaults.calibration.tuning_tokens_max;
  plan.memory_bytes = EstimatePeakBytes(plan.shape.config, plan.calibration);
  plan.memory_bytes = std::max(plan.memory_bytes, plan.tuning_size.num_bytes);
  if (host.memory_free_bytes != kMemoryUnlimited) plan.memory_free_bytes = host.memory_free_bytes;
  plan.disk_bytes = CheckpointWeightsBytes(plan.shape.config, plan.shape.has_qkv_bias);
  plan.disk_free_bytes = FreeDiskBytes(options.output);

  COMET_ASSIGN_OR_RETURN(Backend backend, MakeBackend(options.backend));
  plan.work = EstimateWork(plan.shape.config, plan.calibration, plan.tuning, plan.tuning_size);
  COMET_ASSIGN_OR_RETURN(plan.rates, MeasureRates(backend, plan.num_threads));
  plan.seconds = EstimateSeconds(plan.work, plan.rates);
  return plan;
}

void PrintPart(const char* what, double work, double rate, const char* unit) {
  std::printf("          %-34s %9.3g %-8s at %9.3g /s: %s\n", what, work, unit, rate,
              Duration(work / rate).c_str());
}

void PrintPlan(const Plan& plan) {
  const ModelConfig& config = plan.shape.config;
  std::printf("model     %s, %d layers, hidden %d, FFN %d, %d heads, %d KV heads, vocabulary %d\n",
              config.name.c_str(), config.num_layers, config.hidden_size, config.ffn_size,
              config.num_heads, config.num_kv_heads, config.vocab_size);
  std::printf("memory    %s at the peak; this host's free memory is %s%s\n",
              Gigabytes(plan.memory_bytes).c_str(),
              plan.memory_free_bytes ? Gigabytes(*plan.memory_free_bytes).c_str() : "unknown",
              Suffices(plan.memory_bytes, plan.memory_free_bytes).value_or(true)
                  ? ""
                  : ": it would be refused");
  std::printf("disk      %s", Gigabytes(plan.disk_bytes).c_str());
  if (plan.disk_free_bytes) {
    std::printf("; %s are free%s", Gigabytes(*plan.disk_free_bytes).c_str(),
                plan.disk_bytes > *plan.disk_free_bytes ? ": not enough" : "");
  }
  std::printf("\ntime      about %s on %d threads, of\n", Duration(plan.seconds).c_str(),
              plan.num_threads);
  PrintPart("forward passes, Gram matrices", plan.work.float_ops, plan.rates.float_ops, "flop");
  PrintPart(!plan.is_tuned()             ? "refinement"
            : plan.tuning_size.has_codes ? "refinement, tuning of codes too"
                                         : "refinement, tuning of scales",
            plan.work.refining_ops, plan.rates.float_ops, "flop");
  PrintPart("weight and clip search", plan.work.searched_weights, plan.rates.searched_weights,
            "weights");
  PrintPart("error feedback", plan.work.feedback_ops, plan.rates.feedback_ops, "flop");
  PrintPart("inverses of Gram matrices", plan.work.factor_ops, plan.rates.factor_ops, "flop");
  std::printf(
      "          Work is counted from the shape with %d calibration and %d held-out tokens; rates\n"
      "          were measured just now on this host with matrices of up to 1024 channels. "
      "Reading\n"
      "          the source comes on top.\n",
      plan.calibration.num_tokens, plan.calibration.num_held_out_tokens);
}

// What is unknown is null.
template <typename T>
nlohmann::ordered_json OrNull(const std::optional<T>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

void PrintJson(const Plan& plan) {
  const auto part = [](double work, double rate) {
    return nlohmann::ordered_json({{"work", work}, {"per_second", rate}, {"seconds", work / rate}});
  };
  const nlohmann::ordered_json json = {
      {"num_layers", plan.shape.config.num_layers},
      {"hidden_size", plan.shape.config.hidden_size},
      {"memory_bytes", plan.memory_bytes},
      {"memory_free_bytes", OrNull(plan.memory_free_bytes)},
      {"memory_suffices", OrNull(Suffices(plan.memory_bytes, plan.memory_free_bytes))},
      {"disk_bytes", plan.disk_bytes},
      {"disk_free_bytes", OrNull(plan.disk_free_bytes)},
      {"disk_suffices", OrNull(Suffices(plan.disk_bytes, plan.disk_free_bytes))},
      {"threads", plan.num_threads},
      {"seconds", plan.seconds},
      {"tuning_steps", plan.is_tuned() ? plan.tuning.num_steps : 0},
      {"tuning_codes", plan.tuning_size.has_codes},
      {"float_ops", part(plan.work.float_ops, plan.rates.float_ops)},
      {"refining_ops", part(plan.work.refining_ops, plan.rates.float_ops)},
      {"searched_weights", part(plan.work.searched_weights, plan.rates.searched_weights)},
      {"feedback_ops", part(plan.work.feedback_ops, plan.rates.feedback_ops)},
      {"factor_ops", part(plan.work.factor_ops, plan.rates.factor_ops)}};
  std::printf("%s\n", json.dump(2).c_str());
}

}  // namespace

Status RunQuantizePlan(const QuantizeOptions& options) {
  COMET_ASSIGN_OR_RETURN(const Plan plan, MakePlan(options));
  options.json ? PrintJson(plan) : PrintPlan(plan);
  return Status::Ok();
}

}  // namespace comet
