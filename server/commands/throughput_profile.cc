#include "server/commands/throughput_profile.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "engine/sampling/sampler.h"
#include "engine/sampling/sequence_sampling.h"
#include "kernels/base/math.h"
#include "kernels/base/random.h"
#include "kernels/timed_ops.h"

namespace comet {
namespace {

using std::chrono::steady_clock;

constexpr int kNumRepeats = 3;
// Zeros written before a step, so that the device still has work when the host has issued all of it
// and no op waits for the host.
constexpr int64_t kLeadBytes = int64_t{256} << 20;
constexpr int kNumLeads = 60;

// A step of equal sequences: `chunk` tokens each at the end of `context`.
struct UniformStep {
  std::vector<int> token_ids;
  std::vector<int> query_start{0};
  std::vector<int> context_length;
  std::vector<int> page_table;
  std::vector<int> logits_rows;

  UniformStep(int num_sequences, int chunk, int context, const ModelLimits& limits,
              int vocab_size) {
    Random random(5);
    int next_page = 0;
    for (int s = 0; s < num_sequences; ++s) {
      for (int i = 0; i < chunk; ++i) token_ids.push_back(random.NextInt(vocab_size));
      query_start.push_back(static_cast<int>(token_ids.size()));
      context_length.push_back(context);
      for (int i = 0; i < limits.pages_per_sequence_max; ++i) {
        const bool is_used = i < CeilDiv(context, kPageTokens);
        page_table.push_back(is_used ? next_page++ % limits.num_pages : 0);
      }
      logits_rows.push_back(query_start.back() - 1);
    }
  }

  StepInput input() const {
    return {.token_ids = token_ids,
            .query_start = query_start,
            .context_length = context_length,
            .page_table = page_table,
            .logits_rows = logits_rows};
  }
};

// Greedy, as the run's.
SampleRows GreedyRows(int num_rows) {
  auto params = std::make_shared<SamplingParams>();
  params->temperature = 0.0f;
  const SequenceSampling sampling(params, /*seed=*/0, /*choice_idx=*/0, /*num_top_logprobs=*/-1,
                                  {});
  SampleRows rows;
  rows.Reserve(num_rows);
  for (int i = 0; i < num_rows; ++i) rows.Add(sampling, /*output_position=*/0);
  return rows;
}

Result<StepProfile> Profile(const EngineParts& parts, const UniformStep& step, std::string name) {
  Device& device = *parts.backend.device;
  TimedOps& ops = static_cast<TimedOps&>(*parts.backend.ops);
  const SampleRows rows = GreedyRows(static_cast<int>(step.logits_rows.size()));
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<Sampler> sampler,
                         Sampler::Create(device, ops,
                                         {.rows_max = rows.num_rows(),
                                          .vocab_size = parts.model->config().vocab_size}));
  steady_clock::duration issue_time{};
  const auto run = [&]() -> Status {
    const steady_clock::time_point start = steady_clock::now();
    COMET_ASSIGN_OR_RETURN(const TensorView logits, parts.model->Forward(step.input()));
    COMET_RETURN_IF_ERROR(sampler->Start(rows, logits));
    issue_time = steady_clock::now() - start;
    return sampler->Finish().status();
  };
  COMET_RETURN_IF_ERROR(run());  // Warms up.
  COMET_RETURN_IF_ERROR(run());
  if (!device.is_asynchronous()) issue_time = {};  // There it is the step itself.
  DeviceBuffer lead;
  if (!device.is_host()) {
    COMET_ASSIGN_OR_RETURN(lead, device.Allocate(kLeadBytes));
  }
  StepProfile profile{.name = std::move(name),
                      .num_sequences = static_cast<int>(step.context_length.size()),
                      .num_tokens = static_cast<int>(step.token_ids.size()),
                      .context_length = step.context_length.front(),
                      .issue_us = std::chrono::duration<double, std::micro>(issue_time).count()};
  ops.Start();
  for (int i = 0; i < kNumRepeats; ++i) {
    if (!device.is_host()) {
      for (int j = 0; j < kNumLeads; ++j) {
        COMET_RETURN_IF_ERROR(device.FillZero(lead.data(), kLeadBytes));
      }
    }
    COMET_RETURN_IF_ERROR(run());
  }
  COMET_ASSIGN_OR_RETURN(profile.classes, ops.Stop());
  for (OpClassTime& time : profile.classes) {
    time.num_calls /= kNumRepeats;
    time.us /= kNumRepeats;
    time.num_bytes /= kNumRepeats;
    time.num_int8_ops /= kNumRepeats;
    time.num_f16_ops /= kNumRepeats;
    profile.step_us += time.us;
  }
  return profile;
}

}  // namespace

Result<std::vector<StepProfile>> ProfileSteps(const EngineParts& parts, const ModelLimits& limits,
                                              const ProfileSizes& sizes) {
  const int vocab_size = parts.model->config().vocab_size;
  std::vector<StepProfile> profiles;
  parts.model->ForgetDecodeSteps();
  const int context = sizes.num_input_tokens + (sizes.num_output_tokens + 1) / 2;
  COMET_ASSIGN_OR_RETURN(
      StepProfile decode,
      Profile(parts, UniformStep(sizes.running_sequences, 1, context, limits, vocab_size),
              "decode"));
  profiles.push_back(std::move(decode));
  // Whole prompts, or the last chunk of one that fills the step.
  const int chunk = std::min(sizes.num_input_tokens, sizes.step_tokens_max);
  const int num_prompts = std::min(sizes.step_tokens_max / chunk, sizes.running_sequences);
  COMET_ASSIGN_OR_RETURN(
      StepProfile prefill,
      Profile(parts, UniformStep(num_prompts, chunk, sizes.num_input_tokens, limits, vocab_size),
              "prefill"));
  profiles.push_back(std::move(prefill));
  return profiles;
}

}  // namespace comet
