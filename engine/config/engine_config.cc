#include "engine/config/engine_config.h"

#include <algorithm>

#include "engine/config/config_check.h"
#include "engine/request.h"
#include "kernels/base/str_cat.h"

namespace comet {

Status SchedulerConfig::Validate() const {
  ConfigCheck check("scheduler");
  check.AtLeast("step_tokens_max", step_tokens_max, 0);
  check.AtLeast("running_sequences_max", running_sequences_max, 0);
  check.AtLeast("waiting_sequences_max", waiting_sequences_max, 0);
  check.AtLeast("waiting_tokens_max", waiting_tokens_max, 0);
  check.AtLeast("choices_max", choices_max, 1);
  check.AtLeast("request_deadline_ms", request_deadline_ms, 1);
  check.AtLeast("aging_ms", aging_ms, 1);
  const int64_t aging_ms_all = int64_t{2} * kPriorityMax * aging_ms;
  check.Require(request_deadline_ms > aging_ms_all,
                StrCat("request_deadline_ms is ", request_deadline_ms, ", expected above ",
                       aging_ms_all, ", the ", 2 * kPriorityMax, " levels of priority times ",
                       "aging_ms: the lowest could wait behind the highest until its deadline"));
  check.Require(step_tokens_max == 0 || step_tokens_max >= running_sequences_max,
                "step_tokens_max is below running_sequences_max: a step decodes one token of each");
  return check.status();
}

SchedulerConfig SchedulerConfig::ForDevice(bool is_host) const {
  constexpr int kHostStepTokens = 512;
  constexpr int kHostSequences = 64;
  constexpr int kGpuStepTokens = 2048;
  constexpr int kGpuSequences = 512;
  SchedulerConfig chosen = *this;
  if (running_sequences_max == 0) {
    const int sequences = is_host ? kHostSequences : kGpuSequences;
    chosen.running_sequences_max =
        step_tokens_max == 0 ? sequences : std::min(sequences, step_tokens_max);
  }
  if (step_tokens_max == 0) {
    chosen.step_tokens_max =
        std::max(is_host ? kHostStepTokens : kGpuStepTokens, chosen.running_sequences_max);
  }
  return chosen;
}

Status SchedulerConfig::CheckFitsQueue(int num_sequences, int64_t num_prompt_tokens) const {
  if (num_sequences <= 1) return Status::Ok();
  if (num_sequences > waiting_sequences_max) {
    return InvalidArgument(StrCat("request: prompts times choices are ", num_sequences,
                                  ", expected at most ", std::max(waiting_sequences_max, 1),
                                  ", the queue's length"));
  }
  if (num_prompt_tokens > waiting_tokens_max) {
    return InvalidArgument(StrCat("request: the prompts of all choices are ", num_prompt_tokens,
                                  " tokens, expected at most ", waiting_tokens_max,
                                  ", what the queue holds"));
  }
  return Status::Ok();
}

Status KvCacheConfig::Validate() const {
  ConfigCheck check("kv_cache");
  check.AtLeast("bytes_max", bytes_max, int64_t{0});
  check.Require(memory_fraction >= 0.0 && memory_fraction <= 1.0,
                "memory_fraction is outside [0, 1]");
  return check.status();
}

Status EngineConfig::Validate() const {
  ConfigCheck check("engine");
  check.Merge(scheduler.Validate());
  check.Merge(kv_cache.Validate());
  check.AtLeast("context_length_max", context_length_max, 0);
  check.AtLeast("stall_ms_max", stall_ms_max, 1);
  return check.status();
}

}  // namespace comet
