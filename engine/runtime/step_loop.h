#pragma once

#include <array>
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
#include "kernels/device.h"

namespace comet {

// What the step thread works with; everything outlives the loop.
struct StepLoopParts {
  Device& device;
  Model& model;
  Sampler& sampler;
  EngineExchange& exchange;
  EngineObserver& observer;
  std::span<const int> end_of_generation_ids;
};

// The step thread's work: take what came, plan, run the model, sample, hand out the tokens. Owns
// the scheduler and the page pool. Confined to the step thread.
//
// Where the device computes while the host goes on, a step is planned and issued before the tokens
// of the one before are known: until then a sequence holds in their place the negative number by
// which the embedding finds them on the device (EmbeddingArgs). What such a token ends, the next
// step computes once more for nobody. A step's pages may be given away at once: whoever gets them
// writes them in a later step, and the device takes steps in order.
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

  // A row of a step's results: whose token it is, and where it belongs in its sequence. The
  // sequence may have ended meanwhile.
  struct SampledRow {
    int64_t sequence_id = 0;
    int token_idx = 0;
  };
  struct StepInFlight {
    std::vector<SampledRow> rows;     // Reserved once.
    bool precedes_penalties = false;  // The next step's sampling reads its tokens.
  };

  int num_in_flight() const { return static_cast<int>(num_started_ - num_finished_); }
  StepInFlight& StepAt(int64_t step_idx) {
    return steps_[static_cast<size_t>(step_idx) % steps_.size()];
  }
  bool is_idle() const { return scheduler_.is_empty() && num_in_flight() == 0; }

  // Plans a step and issues it.
  void StartStep(TimePoint start);
  void NoteStarted(const StepPlan& plan, TimePoint now);
  void FillRows(const StepPlan& plan, StepInFlight& step);
  Status Issue();
  // Gives a sequence of a started step the place of its next token.
  void AddPlaceholders(const StepInFlight& step);
  // Waits for the oldest step in flight and takes its tokens.
  void FinishStep();
  void Fail(const Status& fault);
  void TakeTokens(const StepInFlight& step, const SampleResults& results, TimePoint now);
  void TakeToken(LiveSequence& live, int token_idx, StreamEvent event, TimePoint now);
  bool EndsOutput(const LiveSequence& live, int token_id) const;

  // Frees the sequence's pages and hands `event`, its last, to the reader.
  void Finish(LiveSequence& live, StreamEvent event, TimePoint now);
  void Publish();
  // Publishes a step's effects, then lets the readers have its tokens.
  void Deliver();

  const bool works_ahead_;
  Model& model_;
  Sampler& sampler_;
  EngineExchange& exchange_;
  EngineObserver& observer_;
  const std::vector<int> end_of_generation_ids_;  // Ascending.

  PagePool pages_;
  Scheduler scheduler_;
  StepBatch batch_;
  SampleRows rows_;
  std::array<StepInFlight, 2> steps_;  // In turns; both are in flight while the second is started.
  int64_t num_started_ = 0;
  int64_t num_finished_ = 0;
  TimePoint step_start_;       // From when the oldest step's time counts.
  StepTimes times_;            // Of the oldest step, so far.
  double away_seconds_ = 0.0;  // Of its time, what the thread left to the device.
  int num_ending_ = 0;         // Sequences that are no longer scheduled.
  std::unordered_map<int64_t, std::unique_ptr<LiveRequest>> requests_;  // By first_sequence_id.
  std::unordered_map<int64_t, LiveSequence*> sequences_;                // By sequence_id.
  Received received_;
  std::vector<Delivery> deliveries_;
  Departures departures_;
  EngineStats stats_;
  Status fault_;
};

}  // namespace comet
