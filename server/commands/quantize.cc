#include "server/commands/quantize.h"

#include <chrono>
#include <cstdio>

#include "engine/loader/checkpoint.h"
#include "engine/loader/float_source.h"
#include "engine/loader/mapped_file.h"
#include "engine/loader/rescaled_source.h"
#include "engine/quantizer/quantize_model.h"
#include "kernels/base/host_limits.h"
#include "server/commands/progress.h"

namespace comet {
namespace {

constexpr int64_t kCalibrationBytesMax = 64 << 20;  // Far more text than calibration_tokens_max.

void PrintSummary(const QuantizeOptions& options, const AccuracyReport& report,
                  const Checkpoint& checkpoint, double seconds) {
  const LinearAccuracy mean = report.Mean();
  std::printf("wrote %s: %.1f MB in %.0f s\n", options.output.c_str(),
              static_cast<double>(checkpoint.num_bytes()) / 1e6, seconds);
  std::printf("%.2f bits a weight, %.1f %% of multiply-adds INT4, %d calibration tokens\n",
              mean.bits, 100.0 * mean.int4_share, report.num_calibration_tokens);
  std::printf("mean relative error: weights %.4f, outputs %.4f (8-bit activations), %.4f (mixed)\n",
              mean.weight_error, mean.output_error_8, mean.output_error_mixed);
  if (report.tuning.num_steps > 0) {
    std::printf("tuning%s: divergence from the float model %.4f to %.4f in %d steps\n",
                report.tuning.has_codes ? "" : ", codes held", report.tuning.first_loss,
                report.tuning.last_loss, report.tuning.num_steps);
  }
  const HeldOutPerplexity& held_out = report.held_out;
  std::printf(
      "held-out perplexity (%lld predictions): float %.3f, %.3f (8-bit activations, %+.1f "
      "%%), %.3f (mixed, %+.1f %%)\n",
      static_cast<long long>(held_out.num_predictions), held_out.source, held_out.int8,
      100.0 * (held_out.int8 / held_out.source - 1.0), held_out.mixed,
      100.0 * (held_out.mixed / held_out.source - 1.0));
}

}  // namespace

Status RunQuantize(const QuantizeOptions& options) {
  const auto started = std::chrono::steady_clock::now();
  const HostLimits host = ReadHostLimits();
  const int num_threads =
      options.backend.num_threads > 0 ? options.backend.num_threads : host.num_cpus;
  QuantizeModelOptions model_options{.output = options.output,
                                     .may_replace = options.force,
                                     .int4_share = options.int4_share,
                                     .key_error_max = options.key_error_max,
                                     .value_error_max = options.value_error_max,
                                     .damping = static_cast<float>(options.damping),
                                     .num_threads = num_threads,
                                     .memory_bytes_max = host.memory_free_bytes};
  model_options.search.feeds_errors_back = !options.no_error_feedback;
  model_options.search.num_refinement_rounds = options.refinement_rounds;
  model_options.rotates = !options.no_rotation;
  model_options.down_hadamard = !options.no_down_hadamard;
  model_options.follows_quantized = !options.float_calibration;
  model_options.smooths_keys = !options.no_key_smoothing;
  model_options.tuning.num_steps = options.tuning_steps;
  model_options.tuning.rate = static_cast<float>(options.tuning_rate);
  model_options.tuning.code_rate = static_cast<float>(options.tuning_code_rate);
  if (options.calibration_tokens > 0) {
    model_options.calibration.tokens_max = options.calibration_tokens;
  }
  if (!options.calibration.empty()) {
    COMET_ASSIGN_OR_RETURN(model_options.calibration_text,
                           ReadTextFile(options.calibration, kCalibrationBytesMax));
  }
  COMET_ASSIGN_OR_RETURN(Backend backend, MakeBackend(options.backend));
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<FloatSource> source, FloatSource::Open(options.source));
  if (options.has_rescale) {
    source = MakeRescaledSource(std::move(source), static_cast<uint64_t>(options.rescale_seed));
  }
  AccuracyReport report;
  {
    Progress progress("quantize");
    COMET_ASSIGN_OR_RETURN(
        report, QuantizeModel(*source, backend, model_options, [&](const QuantizeProgress& step) {
          progress.Update(step.steps_done, step.num_steps, step.detail);
        }));
  }
  // Opening it proves that what was written is whole.
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                         Checkpoint::Open(options.output));
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started;
  PrintSummary(options, report, *checkpoint, elapsed.count());
  return Status::Ok();
}

}  // namespace comet
