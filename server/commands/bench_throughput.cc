#include "server/commands/bench_throughput.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/loader/output_file.h"
#include "engine/quantizer/model_shape.h"
#include "engine/runtime/load_parts.h"
#include "engine/runtime/start_engine.h"
#include "kernels/base/math.h"
#include "kernels/base/random.h"
#include "kernels/base/str_cat.h"
#include "kernels/op_bench.h"
#include "server/commands/progress.h"
#include "server/commands/throughput_profile.h"
#include "server/commands/throughput_report.h"

namespace comet {
namespace {

using std::chrono::steady_clock;

constexpr const char* kShapesFolder = "configs/models/";
constexpr int kLengthMax = 1 << 24;
constexpr int kRequestsMax = 1 << 20;
constexpr int kRequestsMin = 512;  // Of a claim.
constexpr int kDeadlineMs = 24 * 3600 * 1000;
constexpr auto kReadInterval = std::chrono::milliseconds(20);
// The best products of cuBLASLt on one H100 80GB HBM3; no card of this architecture has more units.
constexpr double kHopperInt8OpsPerSecond = 1.467e15;
constexpr double kHopperF16OpsPerSecond = 0.765e15;

double SecondsBetween(steady_clock::time_point from, steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// What every step had done by its end, noted on the step thread and read once that has stopped. The
// first step ends when everything is submitted, so that everything is queued at once on any
// machine.
class RunObserver final : public EngineObserver {
 public:
  struct Sample {
    steady_clock::time_point time;
    int64_t num_tokens = 0;
    int num_started = 0;
    int num_with_token = 0;
    int num_finished = 0;
  };

  explicit RunObserver(int num_requests) : num_requests_(num_requests) {}

  void NoteAllSubmitted() {
    is_all_submitted_ = true;
    is_all_submitted_.notify_all();
  }

  void OnStarted(double) override { ++now_.num_started; }
  void OnFirstToken(double) override {
    ++now_.num_with_token;
    ++now_.num_tokens;
  }
  void OnNextToken(double) override { ++now_.num_tokens; }
  void OnFinished(FinishReason, double) override {
    ++now_.num_finished;
    now_.time = steady_clock::now();
    if (now_.num_finished == num_requests_) end_ = now_.time;
  }
  void OnStep(const StepTimes& times) override {
    // The next step's time counts from before this wait.
    times_.step_seconds += times.step_seconds - waited_seconds_;
    times_.host_seconds += times.host_seconds - waited_seconds_;
    times_.issue_seconds += times.issue_seconds;
    times_.issue_cpu_seconds += times.issue_cpu_seconds;
    const steady_clock::time_point wait_start = steady_clock::now();
    is_all_submitted_.wait(false);
    now_.time = steady_clock::now();
    waited_seconds_ = SecondsBetween(wait_start, now_.time);
    samples_.push_back(now_);
  }

  steady_clock::time_point end() const { return end_; }
  int64_t num_steps() const { return static_cast<int64_t>(samples_.size()); }
  const StepTimes& times() const { return times_; }  // Of all steps.

  // Between the first step at whose end `begins` and the last at whose end `holds` still.
  template <typename Begins, typename Holds>
  std::optional<TokenRate> RateWhile(const Begins& begins, const Holds& holds) const {
    const auto first = std::find_if(samples_.begin(), samples_.end(), begins);
    const auto last = std::find_if_not(first, samples_.end(), holds);
    if (last - first < 2) return std::nullopt;
    const Sample& from = *first;
    const Sample& to = *(last - 1);
    TokenRate rate{.seconds = SecondsBetween(from.time, to.time)};
    const double num_tokens = static_cast<double>(to.num_tokens - from.num_tokens);
    rate.tokens_per_second = num_tokens / rate.seconds;
    rate.num_sequences = num_tokens / static_cast<double>(last - 1 - first);
    rate.context_length = static_cast<double>(from.num_tokens + to.num_tokens) / 2;
    return rate;
  }

 private:
  const int num_requests_;
  std::atomic<bool> is_all_submitted_{false};
  Sample now_;
  std::vector<Sample> samples_;
  steady_clock::time_point end_;
  StepTimes times_;
  double waited_seconds_ = 0;  // At the end of the last step.
};

Status CheckOptions(const BenchThroughputOptions& options) {
  const auto in_range = [](const char* name, int value, int low, int high) {
    return value >= low && value <= high
               ? Status::Ok()
               : InvalidArgument(
                     StrCat("bench: ", name, " is ", value, ", expected ", low, " to ", high));
  };
  if (options.model.empty() == options.synthetic.empty()) {
    return InvalidArgument("bench: give either --model or --synthetic");
  }
  if (!(options.int4_share >= 0.0 && options.int4_share <= 1.0)) {
    return InvalidArgument(
        StrCat("bench: int4-share is ", options.int4_share, ", expected 0 to 1"));
  }
  COMET_RETURN_IF_ERROR(in_range("input-tokens", options.num_input_tokens, 1, kLengthMax));
  COMET_RETURN_IF_ERROR(in_range("output-tokens", options.num_output_tokens, 1, kLengthMax));
  COMET_RETURN_IF_ERROR(in_range("requests", options.num_requests, 0, kRequestsMax));
  COMET_RETURN_IF_ERROR(
      in_range("running-sequences-max", options.running_sequences_max, 0, kRequestsMax));
  return in_range("step-tokens-max", options.step_tokens_max, 0, kLengthMax);
}

// A name of the shapes' folder, or a file.
Result<SyntheticModel> ReadSynthetic(const BenchThroughputOptions& options) {
  const std::string& name = options.synthetic;
  const bool is_name = name.find('/') == std::string::npos && !name.ends_with(".json");
  const std::string path = is_name ? StrCat(kShapesFolder, name, ".json") : name;
  COMET_ASSIGN_OR_RETURN(ModelShape shape, ReadModelShape(path));
  shape.config.name = is_name ? name : std::filesystem::path(name).stem().string();
  return SyntheticModel{.config = std::move(shape.config),
                        .has_qkv_bias = shape.has_qkv_bias,
                        .int4_share = options.int4_share};
}

Result<LoadOptions> ToLoadOptions(const BenchThroughputOptions& options) {
  LoadOptions load{.model = options.model,
                   .activation_bits = options.activation_bits,
                   .kv_bits = options.kv_bits,
                   .backend = options.backend,
                   .has_timed_ops = options.has_profile};
  if (!options.synthetic.empty()) {
    COMET_ASSIGN_OR_RETURN(load.synthetic, ReadSynthetic(options));
  }
  EngineConfig& engine = load.engine;
  SchedulerConfig& scheduler = engine.scheduler;
  scheduler.running_sequences_max = options.running_sequences_max;
  scheduler.step_tokens_max = options.step_tokens_max;
  scheduler.request_deadline_ms = kDeadlineMs;
  engine.context_length_max = options.num_input_tokens + options.num_output_tokens;
  engine.works_ahead = options.works_ahead;
  engine.decode_graphs = options.decode_graphs;
  return load;
}

// How many requests, and how many at once, once it is known what memory holds: as many as never
// have to give their pages up.
void SizeRun(LoadedParts& loaded) {
  SchedulerConfig& scheduler = loaded.config.scheduler;
  const int pages_each = CeilDiv(loaded.config.context_length_max, kPageTokens);
  scheduler.running_sequences_max =
      std::min(scheduler.running_sequences_max, loaded.limits.num_pages / pages_each);
}

int NumClaimRequests(int running_sequences_max) {
  return std::max(2 * running_sequences_max, kRequestsMin);
}

int NumRequests(const BenchThroughputOptions& options, int running_sequences_max) {
  if (options.decode_only) return running_sequences_max;
  if (options.num_requests > 0) return options.num_requests;
  return NumClaimRequests(running_sequences_max);
}

struct Run {
  std::vector<std::unique_ptr<TokenStream>> streams;
  steady_clock::time_point start;
};

Result<Run> SubmitAll(Engine& engine, const BenchThroughputOptions& options, int num_requests,
                      RunObserver& observer) {
  Random random(3);
  const int vocab_size = engine.model_config().vocab_size;
  std::vector<Request> requests(static_cast<size_t>(num_requests));
  for (Request& request : requests) {
    for (int i = 0; i < options.num_input_tokens; ++i) {
      request.prompt_ids.push_back(random.NextInt(vocab_size));
    }
    request.sampling.temperature = 0.0f;
    request.output_tokens_max = options.num_output_tokens;
    request.ignore_eos = true;
  }
  Run run;
  run.streams.reserve(requests.size());
  run.start = steady_clock::now();
  Status submitted;
  for (Request& request : requests) {
    Result<std::unique_ptr<TokenStream>> stream = engine.Submit(std::move(request));
    submitted = stream.status();
    if (!submitted.ok()) break;
    run.streams.push_back(std::move(stream).value());
  }
  observer.NoteAllSubmitted();  // Also after a failure: the step thread waits for it.
  COMET_RETURN_IF_ERROR(submitted);
  return run;
}

// Reads every stream to its end: each must give all its tokens.
Status ReadAll(Run& run, int num_output_tokens) {
  Progress progress("bench");
  const int num_all = static_cast<int>(run.streams.size());
  int num_finished = 0;
  while (num_finished < num_all) {
    std::this_thread::sleep_for(kReadInterval);
    num_finished = 0;
    for (const std::unique_ptr<TokenStream>& stream : run.streams) {
      while (const std::optional<OutputDelta> delta = stream->TryNext()) {
        if (delta->finish_reason == FinishReason::kError) return delta->status;
        if (!delta->finish_reason) continue;
        const int num_tokens = stream->usage().completion_tokens;
        if (num_tokens != num_output_tokens) {
          return Internal(
              StrCat("bench: an output is ", num_tokens, " tokens, expected ", num_output_tokens));
        }
      }
      num_finished += stream->is_finished() ? 1 : 0;
    }
    progress.Update(num_finished, num_all, "requests");
  }
  return Status::Ok();
}

void FillRates(const RunObserver& observer, const BenchThroughputOptions& options,
               ThroughputResult& result) {
  using Sample = RunObserver::Sample;
  const int num_requests = result.num_requests;
  const int num_running = result.running_sequences_max;
  if (num_requests <= num_running) {
    // Everything runs at once: what lies between the last first token and the first end.
    result.decode_only =
        observer.RateWhile([&](const Sample& s) { return s.num_with_token == num_requests; },
                           [](const Sample& s) { return s.num_finished == 0; });
    if (result.decode_only) {
      result.decode_only->context_length =
          options.num_input_tokens + result.decode_only->context_length / num_requests;
    }
    return;
  }
  result.steady = observer.RateWhile([](const Sample& s) { return s.num_finished > 0; },
                                     [&](const Sample& s) { return s.num_started < num_requests; });
  if (result.steady) result.steady->context_length = 0;
}

// Of a GPU of Hopper's kind alone are the rates known. Takes 2 GB of it for a moment.
DeviceRates MeasureRates(const BackendOptions& backend) {
  if (backend.device != "cuda") return {};
  const Result<std::unique_ptr<OpBench>> bench = MakeOpBench({.has_baselines = false});
  if (!bench.ok() || (*bench)->device().int8_ops_per_clock_and_sm == 0) return {};
  return {.bytes_per_second = (*bench)->device().copy_bytes_per_second,
          .int8_ops_per_second = kHopperInt8OpsPerSecond,
          .f16_ops_per_second = kHopperF16OpsPerSecond};
}

// Loads, and sizes the run by what memory holds.
Result<LoadedParts> Load(const BenchThroughputOptions& options, ThroughputResult& result) {
  const steady_clock::time_point start = steady_clock::now();
  COMET_ASSIGN_OR_RETURN(LoadOptions load, ToLoadOptions(options));
  COMET_ASSIGN_OR_RETURN(LoadedParts loaded, LoadParts(load));
  COMET_RETURN_IF_ERROR(loaded.parts.backend.device->Synchronize());
  result.load_seconds = SecondsBetween(start, steady_clock::now());
  SizeRun(loaded);
  SchedulerConfig& scheduler = loaded.config.scheduler;
  result.num_requests = NumRequests(options, scheduler.running_sequences_max);
  result.num_claim_requests = NumClaimRequests(scheduler.running_sequences_max);
  scheduler.waiting_sequences_max = result.num_requests;
  scheduler.waiting_tokens_max = static_cast<int>(std::min<int64_t>(
      int64_t{result.num_requests} * options.num_input_tokens, std::numeric_limits<int>::max()));
  result.model = loaded.parts.model->config().name;
  result.device = std::string(loaded.parts.backend.device->description());
  result.kernels = std::string(loaded.parts.backend.ops->KernelDescription());
  result.num_input_tokens = options.num_input_tokens;
  result.num_output_tokens = options.num_output_tokens;
  result.running_sequences_max = scheduler.running_sequences_max;
  result.step_tokens_max = scheduler.step_tokens_max;
  result.memory = loaded.memory;
  return loaded;
}

// Runs every request through an engine of the loaded parts, which are given back.
Status TimeRun(const BenchThroughputOptions& options, LoadedParts& loaded,
               ThroughputResult& result) {
  Device& device = *loaded.parts.backend.device;  // Stays where it is when the parts move.
  const steady_clock::time_point engine_start = steady_clock::now();
  RunObserver observer(result.num_requests);
  COMET_ASSIGN_OR_RETURN(
      std::unique_ptr<Engine> engine,
      StartEngine(std::move(loaded.parts), loaded.limits, loaded.config, &observer));
  result.start_seconds = SecondsBetween(engine_start, steady_clock::now());
  COMET_ASSIGN_OR_RETURN(const DeviceMemory left, device.QueryMemory());
  result.left_bytes = left.free_bytes;
  COMET_ASSIGN_OR_RETURN(Run run, SubmitAll(*engine, options, result.num_requests, observer));
  COMET_RETURN_IF_ERROR(ReadAll(run, options.num_output_tokens));
  result.num_preemptions = engine->stats().preemptions_total;
  run.streams.clear();  // Before their engine.
  loaded.parts = StopEngine(std::move(engine));
  result.run_seconds = SecondsBetween(run.start, observer.end());
  result.num_steps = observer.num_steps();
  const double us_a_step = 1e6 / static_cast<double>(result.num_steps);
  result.step_us = observer.times().step_seconds * us_a_step;
  result.host_us = observer.times().host_seconds * us_a_step;
  result.issue_us = observer.times().issue_seconds * us_a_step;
  result.issue_cpu_us = observer.times().issue_cpu_seconds * us_a_step;
  FillRates(observer, options, result);
  return Status::Ok();
}

Result<ThroughputResult> Measure(const BenchThroughputOptions& options) {
  ThroughputResult result;
  COMET_ASSIGN_OR_RETURN(LoadedParts loaded, Load(options, result));
  COMET_RETURN_IF_ERROR(TimeRun(options, loaded, result));
  if (!options.has_profile) return result;
  COMET_ASSIGN_OR_RETURN(result.profiles,
                         ProfileSteps(loaded.parts, loaded.limits,
                                      {.num_input_tokens = options.num_input_tokens,
                                       .num_output_tokens = options.num_output_tokens,
                                       .running_sequences = result.running_sequences_max,
                                       .step_tokens_max = result.step_tokens_max}));
  // Its memory is wanted; destroyed whole, as the model goes before its device.
  { const EngineParts ended = std::move(loaded.parts); }
  result.rates = MeasureRates(options.backend);
  return result;
}

}  // namespace

Status RunBenchThroughput(const BenchThroughputOptions& options) {
  COMET_RETURN_IF_ERROR(CheckOptions(options));
  COMET_ASSIGN_OR_RETURN(const ThroughputResult result, Measure(options));
  const std::string json = ThroughputJson(result).dump(2) + "\n";
  std::printf("%s", (options.json == "-" ? json : ThroughputText(result)).c_str());
  if (!options.json.empty() && options.json != "-") {
    COMET_RETURN_IF_ERROR(WriteTextFile(options.json, json));
  }
  return options.svg.empty() ? Status::Ok() : WriteTextFile(options.svg, ThroughputSvg(result));
}

}  // namespace comet
