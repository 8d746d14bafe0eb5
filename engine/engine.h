#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/chat_template/chat_template.h"
#include "engine/config/engine_config.h"
#include "engine/model/model_config.h"
#include "engine/request.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/status.h"

namespace comet {

// The output of one submitted request, read by one server thread. Detokenises and matches stop
// texts on the reader's side, so the step thread only hands over token ids. Destroying it before
// the last delta cancels the request within one step. Confined to one thread at a time; OnReady's
// callback comes from the step thread. Destroyed before its engine.
class TokenStream {
 public:
  virtual ~TokenStream() = default;

  // The next delta if one is there; never waits.
  virtual std::optional<OutputDelta> TryNext() = 0;
  // Waits at most `timeout`; empty when nothing came.
  virtual std::optional<OutputDelta> WaitNext(std::chrono::milliseconds timeout) = 0;
  // Calls `callback` once, soon, when TryNext() may have something (at once if it already has).
  // The callback must not block and must not call the stream; none runs once the stream is
  // destroyed.
  virtual void OnReady(std::function<void()> callback) = 0;
  // Every choice has given its finish_reason.
  virtual bool is_finished() const = 0;
  // So far; final once is_finished().
  virtual Usage usage() const = 0;
  virtual void Cancel() = 0;
};

// Counters since start and gauges of now. A consistent snapshot.
struct EngineStats {
  int num_sequences_running = 0;  // Being computed, or their last token is on its way.
  int num_sequences_waiting = 0;  // For their first step, or to be computed anew.
  int num_pages_total = 0;
  int num_pages_used = 0;
  int64_t preemptions_total = 0;
  int64_t prompt_tokens_total = 0;
  int64_t generation_tokens_total = 0;
  int64_t nan_logits_total = 0;
  int64_t steps_total = 0;
  std::chrono::steady_clock::duration last_step_age{};  // Since the last step ended; 0 while idle.
};

// Where the time of one step went, as the step thread saw it.
struct StepTimes {
  double step_seconds = 0;
  // Of it, all but waiting for results and, unless steps are issued ahead, issuing: planning,
  // taking tokens, and issuing ahead.
  double host_seconds = 0;
  // In the calls that issue the step's ops. They also wait, where a device's queue is full; the
  // thread's CPU time tells whether it slept in them.
  double issue_seconds = 0;
  double issue_cpu_seconds = 0;
};

// What happened to one request or step, for histograms. Called on the step thread, before the
// readers see the step's tokens: it must be quick and must not call the engine. A request of
// several choices starts, gets its first token and finishes once, with the gravest of their
// reasons; the time between tokens is each choice's own. A choice that its reader ended at a stop
// text counts as kStop unless it had ended by itself before the reader saw the text.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnStarted(double /*queue_seconds*/) {}  // Left the queue for its first step.
  virtual void OnFirstToken(double /*ttft_seconds*/) {}
  virtual void OnNextToken(double /*inter_token_seconds*/) {}
  virtual void OnFinished(FinishReason /*reason*/, double /*e2e_seconds*/) {}
  virtual void OnStep(const StepTimes& /*times*/) {}
};

// A model being served: requests in, token streams out. One step thread owns scheduler, KV cache
// and model. Thread-safe.
class Engine {
 public:
  virtual ~Engine() = default;

  // Errors: kInvalidArgument (naming the field), kResourceExhausted (the queue is full),
  // kUnavailable (draining, or the device failed).
  virtual Result<std::unique_ptr<TokenStream>> Submit(Request request) = 0;

  virtual const ModelConfig& model_config() const = 0;
  virtual const EngineConfig& config() const = 0;
  virtual const Tokenizer& tokenizer() const = 0;
  // Null when the checkpoint has none.
  virtual const ChatTemplate* chat_template() const = 0;
  virtual EngineStats stats() const = 0;
  // What the device failed with, after which nothing is computed any more; OK while it has not.
  virtual Status CheckDevice() const = 0;
  // OK when a step finished recently or there is nothing to do, and not draining.
  virtual Status CheckReady() const = 0;

  // Refuses new requests from now on.
  virtual void BeginDrain() = 0;
  // Waits until nothing runs or `timeout` passed; then cancels the rest, which takes one step. True
  // when all finished.
  virtual bool WaitDrained(std::chrono::milliseconds timeout) = 0;
};

}  // namespace comet
