#include "engine/runtime/engine_exchange.h"

#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// What everyone is told of a device's fault; OK without one.
Status DeviceStatus(const Status& fault) {
  if (fault.ok()) return Status::Ok();
  return Unavailable(StrCat("engine: the device failed: ", fault.message()));
}

}  // namespace

using std::chrono::steady_clock;

EngineExchange::~EngineExchange() {
  COMET_CHECK_MSG(num_streams_ == 0, "engine: a token stream outlives its engine");
}

Status EngineExchange::Submit(Submission submission) {
  const SchedulerConfig& limits = config_.scheduler;
  const int num_sequences = submission.request.num_choices;
  const int64_t num_tokens = submission.num_prompt_tokens();
  std::lock_guard lock(mutex_);
  COMET_RETURN_IF_ERROR(DeviceStatus(fault_));
  if (is_draining_) return Unavailable("engine: draining, new requests are refused");
  if (num_waiting_sequences_ > 0) {
    if (num_waiting_sequences_ + num_sequences > limits.waiting_sequences_max) {
      return ResourceExhausted(StrCat("engine: ", num_waiting_sequences_, " sequences wait and ",
                                      num_sequences, " would join them, expected at most ",
                                      limits.waiting_sequences_max));
    }
    if (num_waiting_tokens_ + num_tokens > limits.waiting_tokens_max) {
      return ResourceExhausted(StrCat("engine: ", num_waiting_tokens_, " prompt tokens wait and ",
                                      num_tokens, " would join them, expected at most ",
                                      limits.waiting_tokens_max));
    }
  }
  if (!is_busy()) last_progress_ = steady_clock::now();
  num_waiting_sequences_ += num_sequences;
  num_waiting_tokens_ += num_tokens;
  num_pending_sequences_ += num_sequences;
  pending_.submissions.push_back(std::move(submission));
  has_pending_.notify_one();
  return Status::Ok();
}

// Nobody is woken: an idle step thread has no sequence to end, and a busy one looks before each
// step.
void EngineExchange::EndSequence(const SequenceEnd& end) {
  std::lock_guard lock(mutex_);
  if (is_busy()) pending_.ends.push_back(end);
}

EngineStats EngineExchange::stats() const {
  std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.num_sequences_waiting += num_pending_sequences_;
  stats.last_step_age = is_busy() ? SinceProgress() : steady_clock::duration::zero();
  return stats;
}

Status EngineExchange::CheckDevice() const {
  std::lock_guard lock(mutex_);
  return DeviceStatus(fault_);
}

Status EngineExchange::CheckReady() const {
  std::lock_guard lock(mutex_);
  COMET_RETURN_IF_ERROR(DeviceStatus(fault_));
  if (is_draining_) return Unavailable("engine: draining");
  const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(SinceProgress());
  if (is_busy() && age.count() > config_.stall_ms_max) {
    return Unavailable(StrCat("engine: the last step ended ", age.count(),
                              " ms ago, expected at most ", config_.stall_ms_max));
  }
  return Status::Ok();
}

void EngineExchange::BeginDrain() {
  std::lock_guard lock(mutex_);
  is_draining_ = true;
}

void EngineExchange::EndAll() {
  std::lock_guard lock(mutex_);
  if (is_busy()) pending_.ends_all = true;
}

bool EngineExchange::WaitIdle(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return became_idle_.wait_for(lock, timeout, [this] { return !is_busy(); });
}

void EngineExchange::Stop() {
  std::lock_guard lock(mutex_);
  is_draining_ = true;
  pending_.ends_all = true;
  pending_.stops = true;
  has_pending_.notify_one();
}

void EngineExchange::Receive(Received& received, bool is_idle) {
  received.submissions.clear();
  received.ends.clear();
  std::unique_lock lock(mutex_);
  if (is_idle && pending_.submissions.empty() && !pending_.stops) {
    is_idle_ = true;
    // They are for what has ended meanwhile.
    pending_.ends.clear();
    pending_.ends_all = false;
    became_idle_.notify_all();
    has_pending_.wait(lock, [this] { return !pending_.submissions.empty() || pending_.stops; });
  }
  is_idle_ = false;
  last_progress_ = steady_clock::now();
  received.submissions.swap(pending_.submissions);
  received.ends.swap(pending_.ends);
  received.ends_all = std::exchange(pending_.ends_all, false);
  received.stops = pending_.stops;
  // What was pending counts as waiting in stats_ until the step thread publishes.
  stats_.num_sequences_waiting += std::exchange(num_pending_sequences_, 0);
}

void EngineExchange::Publish(const EngineStats& stats, const Departures& departures) {
  std::lock_guard lock(mutex_);
  stats_ = stats;
  num_waiting_sequences_ -= departures.num_sequences;
  num_waiting_tokens_ -= departures.num_prompt_tokens;
  COMET_CHECK(num_waiting_sequences_ >= 0 && num_waiting_tokens_ >= 0);
}

void EngineExchange::Fail(const Status& fault) {
  std::lock_guard lock(mutex_);
  fault_ = fault;
}

steady_clock::duration EngineExchange::SinceProgress() const {
  return steady_clock::now() - last_progress_;
}

}  // namespace comet
