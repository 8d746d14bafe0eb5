#include "engine/runtime/start_engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "engine/config/config_check.h"
#include "engine/model/prompt_step.h"
#include "engine/runtime/engine_exchange.h"
#include "engine/runtime/output_stream.h"
#include "engine/runtime/request_check.h"
#include "engine/runtime/step_loop.h"
#include "engine/sampling/sample_rows.h"
#include "engine/sampling/sampler.h"
#include "engine/sampling/sequence_sampling.h"
#include "kernels/base/check.h"
#include "kernels/base/random.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// The longest context that model, page tables and pool allow.
int ContextCapacity(const ModelConfig& model, const ModelLimits& limits) {
  const int num_pages = std::min(limits.pages_per_sequence_max, limits.num_pages);
  return static_cast<int>(
      std::min<int64_t>(model.context_length_max, int64_t{num_pages} * kPageTokens));
}

Status CheckAgainstModel(const EngineConfig& config, const ModelConfig& model,
                         const ModelLimits& limits) {
  ConfigCheck check("engine");
  check.Merge(config.Validate());
  check.AtLeast("num_pages", limits.num_pages, 1);
  check.InRange("scheduler.step_tokens_max", config.scheduler.step_tokens_max, 1,
                limits.step_tokens_max);
  check.InRange("scheduler.running_sequences_max", config.scheduler.running_sequences_max, 1,
                std::min(limits.sequences_max, limits.logits_rows_max));
  check.InRange("context_length_max", config.context_length_max, 0, ContextCapacity(model, limits));
  return check.status();
}

// Every running sequence's tokens lie in pages but the one sampled last, and a history lists no
// token twice.
int64_t HistoryTokensMax(const EngineConfig& config, const ModelConfig& model,
                         const ModelLimits& limits) {
  const int64_t sequences_max = config.scheduler.running_sequences_max;
  const int64_t in_pool = int64_t{limits.num_pages} * kPageTokens + sequences_max;
  const int64_t distinct = sequences_max * std::min(model.vocab_size, config.context_length_max);
  return std::min(in_pool, distinct);
}

std::vector<int> EndOfGenerationIds(const Tokenizer& tokenizer, const ModelConfig& model) {
  std::vector<int> token_ids = tokenizer.end_of_generation_ids();
  token_ids.insert(token_ids.end(), model.eos_ids.begin(), model.eos_ids.end());
  return token_ids;
}

// Whether there is a text before the output: a prompt of nothing but BOS has none.
bool GivesText(const Tokenizer& tokenizer, const std::vector<int>& token_ids) {
  return std::any_of(token_ids.begin(), token_ids.end(), [&](int token_id) {
    return !tokenizer.TokenBytes(token_id, /*with_special=*/false).empty();
  });
}

uint64_t RandomBits() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

// Runs a step of one prompt's tokens and samples from it. They go into the first pages, which no
// sequence holds yet; what is in a free page is never read.
Status RunFirstStep(Model& model, Sampler& sampler, const ModelLimits& limits, int num_tokens) {
  const PromptStep prompt(num_tokens, limits.pages_per_sequence_max);
  const StepInput step = prompt.Input(/*with_logits=*/true);
  SampleRows rows;
  rows.Reserve(1);
  rows.Add(SequenceSampling(std::make_shared<const SamplingParams>(), /*seed=*/0, /*choice_idx=*/0,
                            /*num_top_logprobs=*/-1, step.token_ids),
           /*output_position=*/0);
  COMET_ASSIGN_OR_RETURN(const TensorView logits, model.Forward(step));
  COMET_RETURN_IF_ERROR(sampler.Start(rows, logits));
  // What it samples is not looked at: logits that are not finite are an answer's fault.
  return sampler.Finish().status();
}

// So that a kernel that is missing is found at the start and not by the first request: a decode,
// and a chunk of a prompt, whose attention and products are other kernels. On a host they are the
// same code for any length, so two tokens will do there.
Status WarmUp(Model& model, Sampler& sampler, const ModelLimits& limits, bool is_host) {
  constexpr int kHostChunk = 2;
  constexpr int kGpuChunk = 512;  // Long enough for the widest tiles of products and attention.
  const int num_tokens = std::min({is_host ? kHostChunk : kGpuChunk, limits.step_tokens_max,
                                   ContextCapacity(model.config(), limits)});
  COMET_RETURN_IF_ERROR(RunFirstStep(model, sampler, limits, 1));
  return num_tokens > 1 ? RunFirstStep(model, sampler, limits, num_tokens) : Status::Ok();
}

// The engine of one model on one device of this process.
class LocalEngine final : public Engine {
 public:
  LocalEngine(EngineParts parts, const ModelLimits& limits, const EngineConfig& config,
              std::unique_ptr<Sampler> sampler, EngineObserver* observer)
      : parts_(std::move(parts)),
        config_(config),
        sampler_(std::move(sampler)),
        exchange_(config_),
        end_of_generation_ids_(EndOfGenerationIds(*parts_.tokenizer, parts_.model->config())),
        step_loop_({.device = *parts_.backend.device,
                    .model = *parts_.model,
                    .sampler = *sampler_,
                    .exchange = exchange_,
                    .observer = observer != nullptr ? *observer : silent_observer_,
                    .end_of_generation_ids = end_of_generation_ids_},
                   config_, limits),
        step_thread_([this] { step_loop_.Run(); }) {}

  ~LocalEngine() override { Stop(); }

  EngineParts Release() {
    Stop();
    // Captured steps read the sampler's memory, which goes with the engine.
    parts_.model->ForgetDecodeSteps();
    parts_.model->ReadSampledTokens({});
    return std::move(parts_);
  }

  Result<std::unique_ptr<TokenStream>> Submit(Request request) override;

  const ModelConfig& model_config() const override { return parts_.model->config(); }
  const EngineConfig& config() const override { return config_; }
  const Tokenizer& tokenizer() const override { return *parts_.tokenizer; }
  const ChatTemplate* chat_template() const override { return parts_.chat_template.get(); }
  EngineStats stats() const override { return exchange_.stats(); }
  Status CheckDevice() const override { return exchange_.CheckDevice(); }
  Status CheckReady() const override { return exchange_.CheckReady(); }
  void BeginDrain() override { exchange_.BeginDrain(); }
  bool WaitDrained(milliseconds timeout) override;

 private:
  void Stop() {
    if (!step_thread_.joinable()) return;
    exchange_.Stop();
    step_thread_.join();
  }

  EngineParts parts_;
  const EngineConfig config_;  // With the context length resolved.
  const std::unique_ptr<Sampler> sampler_;
  EngineObserver silent_observer_;
  EngineExchange exchange_;
  const std::vector<int> end_of_generation_ids_;
  StepLoop step_loop_;  // Touched by the step thread alone once it runs.
  std::atomic<int64_t> next_sequence_id_{1};
  const uint64_t seed_base_ = RandomBits();  // Of requests without a seed.
  std::thread step_thread_;
};

Result<std::unique_ptr<TokenStream>> LocalEngine::Submit(Request request) {
  COMET_RETURN_IF_ERROR(Validate(request, {.context_length_max = config_.context_length_max,
                                           .vocab_size = model_config().vocab_size,
                                           .choices_max = config_.scheduler.choices_max}));
  const int num_prompt_tokens = static_cast<int>(request.prompt_ids.size());
  COMET_RETURN_IF_ERROR(config_.scheduler.CheckFitsQueue(
      request.num_choices, int64_t{num_prompt_tokens} * request.num_choices));
  const int room = config_.context_length_max - num_prompt_tokens;
  const int output_tokens_max =
      request.output_tokens_max == 0 ? room : std::min(request.output_tokens_max, room);
  const int deadline_ms =
      request.deadline_ms == 0
          ? config_.scheduler.request_deadline_ms
          : std::min(request.deadline_ms, config_.scheduler.request_deadline_ms);

  Submission submission;
  submission.first_sequence_id = next_sequence_id_.fetch_add(request.num_choices);
  submission.seed = request.sampling.seed.value_or(
      MixBits(seed_base_ + static_cast<uint64_t>(submission.first_sequence_id)));
  submission.num_tokens_max = num_prompt_tokens + output_tokens_max;
  submission.arrival = steady_clock::now();
  submission.deadline = submission.arrival + milliseconds(deadline_ms);
  submission.channel = std::make_shared<StreamChannel>();

  const OutputStreamOptions options{
      .first_sequence_id = submission.first_sequence_id,
      .num_choices = request.num_choices,
      .num_prompt_tokens = num_prompt_tokens,
      .stop = request.stop,
      .with_special_tokens = request.with_special_tokens,
      .continues_text = request.continues_prompt && GivesText(tokenizer(), request.prompt_ids),
      .with_logprobs = request.num_top_logprobs >= 0};
  submission.request = std::move(request);
  const std::shared_ptr<StreamChannel> channel = submission.channel;
  COMET_RETURN_IF_ERROR(exchange_.Submit(std::move(submission)));
  return std::unique_ptr<TokenStream>(
      std::make_unique<OutputStream>(exchange_, *parts_.tokenizer, channel, options));
}

// After the timeout everything is cancelled; that takes one step, unless the device hangs.
bool LocalEngine::WaitDrained(milliseconds timeout) {
  if (exchange_.WaitIdle(timeout)) return true;
  exchange_.EndAll();
  (void)exchange_.WaitIdle(milliseconds(config_.stall_ms_max));
  return false;
}

}  // namespace

Result<std::unique_ptr<Engine>> StartEngine(EngineParts parts, const ModelLimits& limits,
                                            const EngineConfig& config, EngineObserver* observer) {
  COMET_CHECK(parts.model != nullptr && parts.tokenizer != nullptr);
  const ModelConfig& model = parts.model->config();
  COMET_RETURN_IF_ERROR(CheckAgainstModel(config, model, limits));
  EngineConfig resolved = config;
  if (resolved.context_length_max == 0) {
    resolved.context_length_max = ContextCapacity(model, limits);
  }
  // The sampler refers to the device and ops, which the move below leaves where they are.
  COMET_ASSIGN_OR_RETURN(
      std::unique_ptr<Sampler> sampler,
      Sampler::Create(*parts.backend.device, *parts.backend.ops,
                      {.rows_max = resolved.scheduler.running_sequences_max,
                       .vocab_size = parts.model->config().vocab_size,
                       .history_tokens_max = HistoryTokensMax(resolved, model, limits)}));
  parts.model->ReadSampledTokens(sampler->tokens());
  const Status warm_up = WarmUp(*parts.model, *sampler, limits, parts.backend.device->is_host());
  if (!warm_up.ok()) {
    return Status(warm_up.code(), StrCat("engine: its first step failed: ", warm_up.message()));
  }
  if (parts.backend.device->is_asynchronous() && resolved.decode_graphs) {
    COMET_RETURN_IF_ERROR(parts.model->CaptureDecodeSteps());
  }
  return std::unique_ptr<Engine>(std::make_unique<LocalEngine>(std::move(parts), limits, resolved,
                                                               std::move(sampler), observer));
}

EngineParts StopEngine(std::unique_ptr<Engine> engine) {
  auto* const local = dynamic_cast<LocalEngine*>(engine.get());
  COMET_CHECK(local != nullptr);
  return local->Release();
}

}  // namespace comet
