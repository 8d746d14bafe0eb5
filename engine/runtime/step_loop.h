#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/kv_cache/page_pool.h"
#include "engine/model/model.h"
#include "engine/runtime/engine_exchange.h"
#include "engine/runtime/live_request.h"
#include "engine/runtime/step_batch.h"
#include "engine/sampling/sample_rows.h"
#include "engine/sampling/sampler.h"
#include "engine/scheduler/scheduler.h"

namespace comet {

// What the step thread works with; everything outlives the loop.
struct StepLoopParts {
  Model& model;
  Sampler& sampler;
  EngineExchange& exchange;
  EngineObserver& observer;
  std::span<const int> end_of_generation_ids;
};

// The step thread's work: take what came, plan, run the model, sample, hand out the tokens. Owns
// the scheduler and the page pool. Confined to the step thread.
class StepLoop {
 public:
  StepLoop(const StepLoopParts& parts, const EngineConfig& config, const ModelLimits& limits);

  // Returns after EngineExchange::Stop(), everything in flight ended.
  void Run();

 private:
  // What a channel gets once the step's effects are published.
  struct Delivery {
    std::shared_ptr<StreamChannel> channel;
    StreamEvent event;
  };

  void TakeReceived();
  void Admit(Submission submission);
  void EndExpired(TimePoint now);
  void EndAll(FinishReason reason, const Status& status);

  void RunStep(TimePoint start);
  void NoteStarted(const StepPlan& plan, TimePoint now);
  Result<const SampleResults*> Compute();
  void TakeTokens(const SampleResults& results, TimePoint now);
  void TakeToken(LiveSequence& live, StreamEvent event, TimePoint now);
  bool EndsOutput(const LiveSequence& live, int token_id) const;

  // Frees the sequence's pages and hands `event`, its last, to the reader.
  void Finish(LiveSequence& live, StreamEvent event, TimePoint now);
  void Publish();
  // Publishes a step's effects, then lets the readers have its tokens.
  void Deliver();

  Model& model_;
  Sampler& sampler_;
  EngineExchange& exchange_;
  EngineObserver& observer_;
  const std::vector<int> end_of_generation_ids_;  // Ascending.

  PagePool pages_;
  Scheduler scheduler_;
  StepBatch batch_;
  SampleRows rows_;
  std::vector<LiveSequence*> sampled_;                                  // Row i's sequence.
  std::unordered_map<int64_t, std::unique_ptr<LiveRequest>> requests_;  // By first_sequence_id.
  std::unordered_map<int64_t, LiveSequence*> sequences_;                // By sequence_id.
  Received received_;
  std::vector<Delivery> deliveries_;
  Departures departures_;
  EngineStats stats_;
  Status fault_;
};

}  // namespace comet
