#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/loader/checkpoint.h"
#include "engine/loader/float_source.h"
#include "engine/model/model.h"
#include "engine/runtime/start_engine.h"
#include "kernels/make_backend.h"
#include "tests/engine/letter_pairs.h"

namespace comet {

// A small LLaMA of random weights: the shapes of a real one, text of two letters a token.
struct RandomSourceOptions {
  uint64_t seed = 1;
  int nan_token_id = -1;    // A prompt with this token gives logits that are no numbers.
  float eos_weight = 0.0f;  // Scales the LM head's row of kEosId.
  int hidden_size = 64;     // Of 4 heads; a multiple of 8.
  int context_length_max = 256;
};
std::unique_ptr<FloatSource> MakeRandomSource(const RandomSourceOptions& options = {});

struct ServingOptions {
  std::string device = "cpu";  // Of MakeBackend(), or "ahead": the cpu one ahead of its host.
  EngineConfig config = {.scheduler = {.step_tokens_max = 64, .running_sequences_max = 8}};
  int num_pages = 64;
  KvFormat kv = {.k_bits = 4, .v_bits = 4};
  ActivationMode activations = ActivationMode::kInt8;  // Of a checkpoint.
  EngineObserver* observer = nullptr;
};

// An engine of `source` on real ops.
Result<std::unique_ptr<Engine>> StartServing(FloatSource& source, const ServingOptions& options);
// An engine of 4-bit weights.
Result<std::unique_ptr<Engine>> StartServing(const Checkpoint& checkpoint,
                                             const ServingOptions& options);
// On a backend that the test has changed; options.device is not used.
Result<std::unique_ptr<Engine>> StartServing(FloatSource& source, Backend backend,
                                             const ServingOptions& options);

// A host device that claims to compute while the host goes on, so that the engine works ahead and
// captures its decode steps; what is captured is issued again as it was. For a backend of host ops.
Backend MakeAheadBackend(Backend backend);

// Holds the step thread at the end of a step, so that a test decides what is in flight.
class StepGate : public EngineObserver {
 public:
  // The step that runs, or the next one, stops at its end.
  void Shut();
  void Open();
  // Returns once a step waits at the gate; false when none did in five minutes.
  [[nodiscard]] bool WaitUntilHeld();
  // Lets the held step end, so that its tokens reach their readers, and holds the next one. False
  // as WaitUntilHeld().
  [[nodiscard]] bool AdvanceOneStep();

  void OnStep(const StepTimes& times) override;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_shut_ = false;
  bool is_held_ = false;
  bool may_pass_ = false;  // The held step ends though the gate is shut.
};

// All of one choice's deltas.
struct ChoiceOutput {
  std::string text;
  std::vector<int> token_ids;
  std::vector<TokenLogprob> logprobs;
  FinishReason finish_reason = FinishReason::kError;
  Status status;
  int num_deltas = 0;
};

// Reads a stream to its end, or for at most five minutes, in which case the last choices lack an
// end.
std::vector<ChoiceOutput> ReadAll(TokenStream& stream, int num_choices = 1);

// Greedy, without end of generation: runs to its length.
Request GreedyRequest(std::vector<int> prompt_ids, int output_tokens_max);

// Waits until the engine is idle; false when it is not within five minutes.
[[nodiscard]] bool WaitIdle(const Engine& engine);

}  // namespace comet
