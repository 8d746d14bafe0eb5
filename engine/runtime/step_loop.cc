#include "engine/runtime/step_loop.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <optional>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using std::chrono::steady_clock;

double SecondsBetween(TimePoint from, TimePoint to) {
  return std::chrono::duration<double>(to - from).count();
}

// Of the calling thread.
double CpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

std::vector<int> Sorted(std::span<const int> values) {
  std::vector<int> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

}  // namespace

StepLoop::StepLoop(const StepLoopParts& parts, const EngineConfig& config,
                   const ModelLimits& limits)
    : works_ahead_(parts.device.is_asynchronous() && config.works_ahead),
      model_(parts.model),
      sampler_(parts.sampler),
      exchange_(parts.exchange),
      observer_(parts.observer),
      end_of_generation_ids_(Sorted(parts.end_of_generation_ids)),
      pages_({.num_pages = limits.num_pages}),
      scheduler_(config.scheduler, pages_),
      batch_(limits) {
  rows_.Reserve(config.scheduler.running_sequences_max);
  for (StepInFlight& step : steps_) {
    step.rows.reserve(static_cast<size_t>(config.scheduler.running_sequences_max));
  }
  deliveries_.reserve(static_cast<size_t>(config.scheduler.running_sequences_max));
  stats_.num_pages_total = limits.num_pages;
}

void StepLoop::Run() {
  Deliver();  // Publishes the size of the pool.
  while (!received_.stops) {
    exchange_.Receive(received_, is_idle());
    const TimePoint start = steady_clock::now();
    TakeReceived();
    EndExpired(start);
    if (num_in_flight() > 0 && StepAt(num_finished_).precedes_penalties) FinishStep();
    const bool starts_step = !scheduler_.is_empty();
    if (starts_step) StartStep(start);
    const int num_ahead = works_ahead_ && starts_step ? 1 : 0;
    while (num_in_flight() > num_ahead) FinishStep();
    Deliver();
    if (is_idle()) {
      COMET_CHECK(pages_.num_used() == 0 && requests_.empty() && sequences_.empty());
      const Status integrity = pages_.CheckIntegrity();
      COMET_CHECK_MSG(integrity.ok(), integrity.message());
    }
  }
  // For nobody, but the memory it uses is about to go.
  while (num_in_flight() > 0) FinishStep();
}

void StepLoop::TakeReceived() {
  for (Submission& submission : received_.submissions) Admit(std::move(submission));
  for (const SequenceEnd& end : received_.ends) {
    const auto found = sequences_.find(end.sequence_id);
    if (found == sequences_.end()) continue;  // It ended by itself meanwhile.
    Finish(*found->second, {.finish_reason = end.reason}, steady_clock::now());
  }
  if (received_.ends_all) EndAll(FinishReason::kCancelled, Status::Ok());
  // What was submitted before the exchange knew of the fault.
  if (!fault_.ok()) EndAll(FinishReason::kError, fault_);
}

void StepLoop::Admit(Submission submission) {
  const int64_t key = submission.first_sequence_id;
  LiveRequest& request =
      *requests_.emplace(key, std::make_unique<LiveRequest>(std::move(submission))).first->second;
  for (const std::unique_ptr<LiveSequence>& choice : request.choices) {
    sequences_.emplace(choice->sequence.sequence_id, choice.get());
    scheduler_.Enqueue(choice->sequence);
  }
}

void StepLoop::EndExpired(TimePoint now) {
  for (Sequence* sequence : scheduler_.CollectExpired(now)) {
    Finish(*sequences_.at(sequence->sequence_id), {.finish_reason = FinishReason::kDeadline}, now);
  }
}

void StepLoop::EndAll(FinishReason reason, const Status& status) {
  const TimePoint now = steady_clock::now();
  while (!sequences_.empty()) {
    Finish(*sequences_.begin()->second, {.finish_reason = reason, .status = status}, now);
  }
}

void StepLoop::StartStep(TimePoint start) {
  if (num_in_flight() == 0) {
    step_start_ = std::max(step_start_, start);
    away_seconds_ = 0.0;
    times_ = {};
  }
  const StepPlan& plan = scheduler_.PlanStep();
  NoteStarted(plan, start);
  // Not later: a long step's sequences do not wait.
  if (departures_.num_sequences > 0) Publish();
  batch_.Fill(plan);
  StepInFlight& step = StepAt(num_started_++);
  FillRows(plan, step);

  const TimePoint issue_start = steady_clock::now();
  const double issue_start_cpu = CpuSeconds();
  const Status issued = Issue();
  times_.issue_cpu_seconds += CpuSeconds() - issue_start_cpu;
  const double issue_seconds = SecondsBetween(issue_start, steady_clock::now());
  times_.issue_seconds += issue_seconds;
  if (!works_ahead_) away_seconds_ += issue_seconds;
  scheduler_.CommitStep();
  if (!issued.ok()) return Fail(issued);
  AddPlaceholders(step);
}

void StepLoop::FillRows(const StepPlan& plan, StepInFlight& step) {
  rows_.Clear();
  step.rows.clear();
  step.precedes_penalties = false;
  for (const PlannedSequence& planned : plan.sequences()) {
    if (!planned.needs_logits()) continue;
    const Sequence& sequence = *planned.sequence;
    const LiveSequence& live = *sequences_.at(sequence.sequence_id);
    rows_.Add(live.sampling, live.num_output_tokens());
    step.rows.push_back({sequence.sequence_id, sequence.num_tokens()});
    step.precedes_penalties |= live.sampling.history() != nullptr;
  }
}

// A step whose chunks all end inside prompts has no logits to sample from.
Status StepLoop::Issue() {
  COMET_ASSIGN_OR_RETURN(const TensorView logits, model_.Forward(batch_.input()));
  return sampler_.Start(rows_, logits);
}

void StepLoop::AddPlaceholders(const StepInFlight& step) {
  for (size_t i = 0; i < step.rows.size(); ++i) {
    LiveSequence& live = *sequences_.at(step.rows[i].sequence_id);
    Sequence& sequence = live.sequence;
    sequence.token_ids.push_back(-1 - static_cast<int>(i));
    if (sequence.num_tokens() < sequence.num_tokens_max) continue;
    scheduler_.Remove(sequence);
    live.is_scheduled = false;
    ++num_ending_;
  }
}

void StepLoop::FinishStep() {
  const TimePoint wait_start = steady_clock::now();
  const Result<const SampleResults*> results = sampler_.Finish();
  const TimePoint wait_end = steady_clock::now();
  away_seconds_ += SecondsBetween(wait_start, wait_end);
  if (!results.ok()) return Fail(results.status());

  TakeTokens(StepAt(num_finished_++), **results, wait_end);
  ++stats_.steps_total;
  const TimePoint end = steady_clock::now();
  times_.step_seconds = SecondsBetween(step_start_, end);
  times_.host_seconds = times_.step_seconds - std::exchange(away_seconds_, 0.0);
  observer_.OnStep(std::exchange(times_, {}));
  step_start_ = end;
}

// Nothing is computed any more, so what is in flight has no results to wait for.
void StepLoop::Fail(const Status& fault) {
  fault_ = fault;
  exchange_.Fail(fault_);
  num_finished_ = num_started_;
  EndAll(FinishReason::kError, fault_);
}

// A request's prompt is counted once, with its first sequence's first step, as its usage says; what
// preemption and further choices compute again is not.
void StepLoop::NoteStarted(const StepPlan& plan, TimePoint now) {
  for (const PlannedSequence& planned : plan.sequences()) {
    if (planned.sequence->num_computed_tokens > 0) continue;
    LiveSequence& live = *sequences_.at(planned.sequence->sequence_id);
    if (live.has_started) continue;
    live.has_started = true;
    LiveRequest& request = live.request;
    ++departures_.num_sequences;
    departures_.num_prompt_tokens += request.num_prompt_tokens;
    if (request.has_started) continue;
    request.has_started = true;
    stats_.prompt_tokens_total += request.num_prompt_tokens;
    observer_.OnStarted(SecondsBetween(request.submission.arrival, now));
  }
}

void StepLoop::TakeTokens(const StepInFlight& step, const SampleResults& results, TimePoint now) {
  const size_t num_top = static_cast<size_t>(results.num_top);
  for (size_t i = 0; i < step.rows.size(); ++i) {
    const auto found = sequences_.find(step.rows[i].sequence_id);
    if (found == sequences_.end()) continue;  // It ended while the step was on its way.
    LiveSequence& live = *found->second;
    if (results.nonfinite_count[i] > 0) {
      ++stats_.nan_logits_total;
      Finish(live,
             {.finish_reason = FinishReason::kError,
              .status = Internal(StrCat("model: ", results.nonfinite_count[i],
                                        " logits are not finite, expected none"))},
             now);
      continue;
    }
    StreamEvent event{.token_id = results.token[i], .logprob = results.logprob[i]};
    for (size_t j = i * num_top;
         j < i * num_top + static_cast<size_t>(std::max(0, live.sampling.num_top_logprobs()));
         ++j) {
      event.top_logprobs.emplace_back(results.top_ids[j], results.top_logprobs[j]);
    }
    TakeToken(live, step.rows[i].token_idx, std::move(event), now);
  }
}

void StepLoop::TakeToken(LiveSequence& live, int token_idx, StreamEvent event, TimePoint now) {
  LiveRequest& request = live.request;
  live.sequence.token_ids[static_cast<size_t>(token_idx)] = event.token_id;
  live.sampling.AddOutput(event.token_id);
  ++stats_.generation_tokens_total;
  if (!request.has_token) {
    observer_.OnFirstToken(SecondsBetween(request.submission.arrival, now));
    request.has_token = true;
  }
  if (token_idx > request.num_prompt_tokens) {
    observer_.OnNextToken(SecondsBetween(live.last_token_time, now));
  }
  live.last_token_time = now;

  event.choice_idx = live.choice_idx;
  if (EndsOutput(live, event.token_id)) {
    event.gives_text = false;
    event.finish_reason = FinishReason::kStop;
  } else if (token_idx + 1 == live.sequence.num_tokens_max) {
    event.finish_reason = FinishReason::kLength;
  }
  if (event.finish_reason) {
    Finish(live, std::move(event), now);
  } else {
    deliveries_.push_back({request.submission.channel, std::move(event)});
  }
}

bool StepLoop::EndsOutput(const LiveSequence& live, int token_id) const {
  const Request& request = live.request.submission.request;
  if (!request.ignore_eos &&
      std::binary_search(end_of_generation_ids_.begin(), end_of_generation_ids_.end(), token_id)) {
    return true;
  }
  return std::find(request.stop_token_ids.begin(), request.stop_token_ids.end(), token_id) !=
         request.stop_token_ids.end();
}

void StepLoop::Finish(LiveSequence& live, StreamEvent event, TimePoint now) {
  LiveRequest& request = live.request;
  if (live.is_scheduled) {
    scheduler_.Remove(live.sequence);
  } else {
    --num_ending_;
  }
  sequences_.erase(live.sequence.sequence_id);
  if (!live.has_started) {
    ++departures_.num_sequences;
    departures_.num_prompt_tokens += request.num_prompt_tokens;
  }
  event.choice_idx = live.choice_idx;
  request.reason = std::max(request.reason, *event.finish_reason);
  deliveries_.push_back({request.submission.channel, std::move(event)});
  request.choices[static_cast<size_t>(live.choice_idx)].reset();
  if (--request.num_unfinished > 0) return;
  observer_.OnFinished(request.reason, SecondsBetween(request.submission.arrival, now));
  requests_.erase(request.submission.first_sequence_id);
}

void StepLoop::Publish() {
  stats_.num_sequences_running = scheduler_.num_running() + num_ending_;
  stats_.num_sequences_waiting = scheduler_.num_waiting();
  stats_.num_pages_used = pages_.num_used();
  stats_.preemptions_total = scheduler_.preemptions_total();
  exchange_.Publish(stats_, departures_);
  departures_ = {};
}

void StepLoop::Deliver() {
  Publish();
  for (Delivery& delivery : deliveries_) delivery.channel->Push(std::move(delivery.event));
  deliveries_.clear();
}

}  // namespace comet
