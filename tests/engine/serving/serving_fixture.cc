#include "tests/engine/serving/serving_fixture.h"

#include <functional>
#include <limits>
#include <thread>
#include <utility>

#include "kernels/base/math.h"
#include "kernels/base/random.h"
#include "tests/engine/random_model.h"

namespace comet {
namespace {

constexpr std::chrono::minutes kPatience{5};
constexpr float kGain = 2.0f;  // Of the random matrices.

class RandomSource final : public FloatSource {
 public:
  explicit RandomSource(const RandomSourceOptions& options) : options_(options) {
    config_.name = "random";
    config_.hidden_size = options.hidden_size;
    config_.num_layers = 2;
    config_.num_heads = 4;
    config_.num_kv_heads = 2;
    config_.head_dim = options.hidden_size / 4;
    config_.rotary_dim = options.hidden_size / 4;
    config_.ffn_size = options.hidden_size * 3 / 2;
    config_.vocab_size = kLetterPairVocab;
    config_.context_length_max = options.context_length_max;
    config_.bos_id = 1;
    config_.eos_ids = {kEosId};
  }

  const ModelConfig& config() const override { return config_; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  const std::vector<NamedTemplate>& chat_templates() const override { return chat_templates_; }

  Result<FloatLayer> ReadLayer(int layer_idx) override {
    Random random(options_.seed * 100 + static_cast<uint64_t>(layer_idx));
    return RandomLayer(random, config_, kGain);
  }

  Result<std::vector<float>> ReadEmbedding() override {
    Random random(options_.seed * 100 + 50);
    std::vector<float> table = RandomMatrix(random, config_.vocab_size, config_.hidden_size, kGain);
    if (options_.nan_token_id >= 0) {
      ScaleRow(table, options_.nan_token_id, std::numeric_limits<float>::quiet_NaN());
    }
    return table;
  }

  Result<std::vector<float>> ReadFinalNorm() override {
    return std::vector<float>(Size(config_.hidden_size), 1.0f);
  }

  Result<std::vector<float>> ReadLmHead() override {
    Random random(options_.seed * 100 + 51);
    std::vector<float> head = RandomMatrix(random, config_.vocab_size, config_.hidden_size, kGain);
    ScaleRow(head, kEosId, options_.eos_weight);
    return head;
  }

 private:
  static size_t Size(int value) { return static_cast<size_t>(value); }

  void ScaleRow(std::vector<float>& matrix, int row, float factor) const {
    const size_t hidden = Size(config_.hidden_size);
    for (size_t i = 0; i < hidden; ++i) matrix[Size(row) * hidden + i] *= factor;
  }

  RandomSourceOptions options_;
  ModelConfig config_;
  Vocabulary vocabulary_ = LetterPairVocabulary();
  std::vector<NamedTemplate> chat_templates_;
};

class IssuedAgain final : public DeviceGraph {
 public:
  explicit IssuedAgain(std::function<Status()> issue) : issue_(std::move(issue)) {}
  Status Launch() override { return issue_(); }

 private:
  const std::function<Status()> issue_;
};

class AheadDevice final : public Device {
 public:
  explicit AheadDevice(std::unique_ptr<Device> device) : device_(std::move(device)) {}

  std::string_view description() const override { return device_->description(); }
  bool is_host() const override { return true; }
  bool is_asynchronous() const override { return true; }
  Result<DeviceBuffer> Allocate(int64_t num_bytes) override { return device_->Allocate(num_bytes); }
  Result<DeviceBuffer> AllocateStaging(int64_t num_bytes) override {
    return device_->AllocateStaging(num_bytes);
  }
  Result<DeviceMemory> QueryMemory() override { return device_->QueryMemory(); }
  Status CopyToDevice(void* destination, const void* source, int64_t num_bytes) override {
    return device_->CopyToDevice(destination, source, num_bytes);
  }
  Status CopyToHost(void* destination, const void* source, int64_t num_bytes) override {
    return device_->CopyToHost(destination, source, num_bytes);
  }
  Status StartCopyToDevice(void* destination, const void* staging, int64_t num_bytes) override {
    return device_->StartCopyToDevice(destination, staging, num_bytes);
  }
  Status StartCopyToHost(void* staging, const void* source, int64_t num_bytes) override {
    return device_->StartCopyToHost(staging, source, num_bytes);
  }
  Status FillZero(void* destination, int64_t num_bytes) override {
    return device_->FillZero(destination, num_bytes);
  }
  Result<std::unique_ptr<DeviceEvent>> CreateEvent() override { return device_->CreateEvent(); }
  Result<std::unique_ptr<DeviceGraph>> Capture(const std::function<Status()>& issue) override {
    return std::unique_ptr<DeviceGraph>(std::make_unique<IssuedAgain>(issue));
  }
  Status Synchronize() override { return device_->Synchronize(); }
  Status MarkTime(int mark_idx) override { return device_->MarkTime(mark_idx); }
  Result<double> MicrosecondsBetween(int begin_idx, int end_idx) override {
    return device_->MicrosecondsBetween(begin_idx, end_idx);
  }

 private:
  void Free(void*, int64_t, MemoryKind) override {}  // Buffers belong to device_.

  const std::unique_ptr<Device> device_;
};

Result<Backend> MakeServingBackend(const std::string& device) {
  COMET_ASSIGN_OR_RETURN(Backend backend,
                         MakeBackend({.device = device == "ahead" ? "cpu" : device}));
  return device == "ahead" ? MakeAheadBackend(std::move(backend)) : std::move(backend);
}

// `Source` is a FloatSource or a const Checkpoint.
template <typename Source>
Result<std::unique_ptr<Engine>> StartServingOf(Source& source, Backend backend,
                                               const Precision& precision,
                                               const ServingOptions& options) {
  const SchedulerConfig& scheduler = options.config.scheduler;
  const ModelLimits limits{
      .step_tokens_max = scheduler.step_tokens_max,
      .sequences_max = scheduler.running_sequences_max,
      .logits_rows_max = scheduler.running_sequences_max,
      .pages_per_sequence_max = CeilDiv(source.config().context_length_max, kPageTokens),
      .num_pages = options.num_pages};
  EngineParts parts;
  parts.backend = std::move(backend);
  COMET_ASSIGN_OR_RETURN(parts.model, Model::Load(parts.backend, source, precision, limits));
  COMET_ASSIGN_OR_RETURN(parts.tokenizer, Tokenizer::Create(source.vocabulary()));
  return StartEngine(std::move(parts), limits, options.config, options.observer);
}

}  // namespace

std::unique_ptr<FloatSource> MakeRandomSource(const RandomSourceOptions& options) {
  return std::make_unique<RandomSource>(options);
}

Backend MakeAheadBackend(Backend backend) {
  backend.device = std::make_unique<AheadDevice>(std::move(backend.device));
  return backend;
}

Result<std::unique_ptr<Engine>> StartServing(FloatSource& source, const ServingOptions& options) {
  COMET_ASSIGN_OR_RETURN(Backend backend, MakeServingBackend(options.device));
  return StartServing(source, std::move(backend), options);
}

Result<std::unique_ptr<Engine>> StartServing(FloatSource& source, Backend backend,
                                             const ServingOptions& options) {
  const Precision precision{.weights = WeightMode::kFloat,
                            .activations = ActivationMode::kFloat,
                            .kv = options.kv,
                            .kv_from_checkpoint = false};
  return StartServingOf(source, std::move(backend), precision, options);
}

Result<std::unique_ptr<Engine>> StartServing(const Checkpoint& checkpoint,
                                             const ServingOptions& options) {
  COMET_ASSIGN_OR_RETURN(Backend backend, MakeServingBackend(options.device));
  const Precision precision{.weights = WeightMode::kComet,
                            .activations = options.activations,
                            .kv = options.kv,
                            .kv_from_checkpoint = false};
  return StartServingOf(checkpoint, std::move(backend), precision, options);
}

void StepGate::Shut() {
  std::lock_guard lock(mutex_);
  is_shut_ = true;
}

void StepGate::Open() {
  std::lock_guard lock(mutex_);
  is_shut_ = false;
  changed_.notify_all();
}

bool StepGate::WaitUntilHeld() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [this] { return is_held_; });
}

bool StepGate::AdvanceOneStep() {
  std::unique_lock lock(mutex_);
  is_held_ = false;
  may_pass_ = true;
  changed_.notify_all();
  return changed_.wait_for(lock, kPatience, [this] { return is_held_; });
}

void StepGate::OnStep(const StepTimes& /*times*/) {
  std::unique_lock lock(mutex_);
  if (!is_shut_) return;
  is_held_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !is_shut_ || may_pass_; });
  may_pass_ = false;
  is_held_ = false;
}

std::vector<ChoiceOutput> ReadAll(TokenStream& stream, int num_choices) {
  std::vector<ChoiceOutput> outputs(static_cast<size_t>(num_choices));
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!stream.is_finished() && std::chrono::steady_clock::now() < end) {
    std::optional<OutputDelta> delta = stream.WaitNext(std::chrono::milliseconds(1000));
    if (!delta) continue;
    ChoiceOutput& output = outputs[static_cast<size_t>(delta->choice_idx)];
    output.text += delta->text;
    output.token_ids.insert(output.token_ids.end(), delta->token_ids.begin(),
                            delta->token_ids.end());
    output.logprobs.insert(output.logprobs.end(), delta->logprobs.begin(), delta->logprobs.end());
    if (delta->finish_reason) output.finish_reason = *delta->finish_reason;
    output.status = delta->status;
    ++output.num_deltas;
  }
  return outputs;
}

Request GreedyRequest(std::vector<int> prompt_ids, int output_tokens_max) {
  Request request;
  request.prompt_ids = std::move(prompt_ids);
  request.sampling.temperature = 0.0f;
  request.output_tokens_max = output_tokens_max;
  request.ignore_eos = true;
  return request;
}

bool WaitIdle(const Engine& engine) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < end) {
    const EngineStats stats = engine.stats();
    if (stats.num_sequences_running == 0 && stats.num_sequences_waiting == 0) return true;
    std::this_thread::yield();
  }
  return false;
}

}  // namespace comet
