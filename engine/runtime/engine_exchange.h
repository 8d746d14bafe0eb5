#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/config/engine_config.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "engine/runtime/stream_channel.h"
#include "engine/scheduler/sequence.h"
#include "kernels/base/status.h"
#include "kernels/base/thread_annotations.h"

namespace comet {

// A checked request on its way to the step thread.
struct Submission {
  int64_t first_sequence_id = 0;  // Choice i is sequence first_sequence_id + i.
  Request request;
  uint64_t seed = 0;
  int num_tokens_max = 0;  // Prompt and output of one choice.
  TimePoint arrival;
  TimePoint deadline;
  // Shared, because either side may be the last to hold it: the reader can go at any time.
  std::shared_ptr<StreamChannel> channel;

  int64_t num_prompt_tokens() const {
    return static_cast<int64_t>(request.prompt_ids.size()) * request.num_choices;
  }
};

// A reader's wish to end one sequence: kCancelled, or kStop when it found a stop text.
struct SequenceEnd {
  int64_t sequence_id = 0;
  FinishReason reason = FinishReason::kCancelled;
};

// What came for the step thread since it last looked.
struct Received {
  std::vector<Submission> submissions;
  std::vector<SequenceEnd> ends;
  bool ends_all = false;  // Everything in flight is cancelled.
  bool stops = false;     // So is the step thread.
};

// Sequences that the step thread took out of the waiting queue for good.
struct Departures {
  int num_sequences = 0;
  int64_t num_prompt_tokens = 0;
};

// The one place where server threads and the step thread meet: the bounded queue of submissions one
// way, statistics and health the other. Thread-safe.
class EngineExchange {
 public:
  explicit EngineExchange(const EngineConfig& config) : config_(config) {}
  ~EngineExchange();

  // Server threads.

  // A request is taken when nothing waits, whatever its size; else only within the queue's limits.
  // Errors: kResourceExhausted, kUnavailable.
  Status Submit(Submission submission);
  // A sequence that has ended is ignored.
  void EndSequence(const SequenceEnd& end);
  EngineStats stats() const;
  Status CheckDevice() const;
  Status CheckReady() const;
  void BeginDrain();
  void EndAll();
  // Waits until nothing is in flight; false when `timeout` passed first.
  bool WaitIdle(std::chrono::milliseconds timeout);
  void Stop();
  // Streams refer to the exchange: none may be left when it goes.
  void AddStream() { ++num_streams_; }
  void RemoveStream() { --num_streams_; }

  // Step thread.

  // Moves what came to `received`, before every step. When `is_idle`, waits until something comes.
  void Receive(Received& received, bool is_idle);
  // Makes a plan's or step's effects visible, before its tokens are: a reader that has seen its
  // last token finds it counted.
  void Publish(const EngineStats& stats, const Departures& departures);
  // The device failed: nothing is accepted from now on.
  void Fail(const Status& fault);

 private:
  bool is_busy() const { return !is_idle_ || !pending_.submissions.empty(); }
  std::chrono::steady_clock::duration SinceProgress() const;

  const EngineConfig config_;
  std::atomic<int> num_streams_{0};
  mutable std::mutex mutex_;
  std::condition_variable has_pending_;
  std::condition_variable became_idle_;
  Received pending_ COMET_GUARDED_BY(mutex_);
  int num_pending_sequences_ COMET_GUARDED_BY(mutex_) = 0;
  // Submitted and neither started nor ended, pending included.
  int num_waiting_sequences_ COMET_GUARDED_BY(mutex_) = 0;
  int64_t num_waiting_tokens_ COMET_GUARDED_BY(mutex_) = 0;
  bool is_draining_ COMET_GUARDED_BY(mutex_) = false;
  Status fault_ COMET_GUARDED_BY(mutex_);
  EngineStats stats_ COMET_GUARDED_BY(mutex_);
  bool is_idle_ COMET_GUARDED_BY(mutex_) = true;
  TimePoint last_progress_ COMET_GUARDED_BY(mutex_);  // Work came, or a step ended.
};

}  // namespace comet
