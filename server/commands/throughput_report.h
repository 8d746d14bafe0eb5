#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "engine/runtime/memory_plan.h"
#include "kernels/timed_ops.h"

namespace comet {

// What one kind of step took by class of op, means of several runs.
struct StepProfile {
  std::string name;  // "decode", "prefill"
  int num_sequences = 0;
  int num_tokens = 0;
  int context_length = 0;
  double step_us = 0;   // Of all its ops.
  double issue_us = 0;  // For the host to issue it to an idle device; 0: it computes itself.
  std::vector<OpClassTime> classes;
};

// What the profile is held to; 0: unknown.
struct DeviceRates {
  double bytes_per_second = 0;
  double int8_ops_per_second = 0;
  double f16_ops_per_second = 0;
};

// Output tokens over a part of the run.
struct TokenRate {
  double tokens_per_second = 0;
  double seconds = 0;
  double num_sequences = 0;   // Running, at the mean.
  double context_length = 0;  // At the mean; 0: not known.
};

struct ThroughputResult {
  std::string model;
  std::string device;
  std::string kernels;
  int num_input_tokens = 0;
  int num_output_tokens = 0;
  int num_requests = 0;
  int num_claim_requests = 0;  // With fewer the whole run is no claim.
  int running_sequences_max = 0;
  int step_tokens_max = 0;
  MemoryPlan memory;
  // Free once the engine has started: of the reserve, and what no page can use.
  int64_t left_bytes = 0;
  double load_seconds = 0;
  double start_seconds = 0;  // Of the engine: warm-up and graphs.
  double run_seconds = 0;    // From the first submission to the last token.
  int64_t num_steps = 0;
  double step_us = 0;  // At the mean.
  // The host's part of a step, beside the device's where steps are issued ahead; and the calls that
  // issue the ops, which wait where the device's queue is full (StepTimes).
  double host_us = 0;
  double issue_us = 0;
  double issue_cpu_us = 0;
  int64_t num_preemptions = 0;
  std::optional<TokenRate> steady;       // From the first end to the last start.
  std::optional<TokenRate> decode_only;  // While as many as run at once all decode.
  std::vector<StepProfile> profiles;
  DeviceRates rates;

  bool is_claim() const { return num_requests >= num_claim_requests; }
  double output_tokens_per_second() const {
    return num_requests * static_cast<double>(num_output_tokens) / run_seconds;
  }
};

// What of the host's part of a step is its own work, at most: issuing counts with no more than what
// the profile's longer step took on an idle device, for the rest waits for a place in the device's
// queue, in which a driver spins. Empty: not known.
std::optional<double> OwnUsMax(const ThroughputResult& result);

// The least time of a class: its bytes or its arithmetic at the device's rates, whichever is
// longer.
double BoundUs(const OpClassTime& time, const DeviceRates& rates);

std::string ThroughputText(const ThroughputResult& result);
nlohmann::ordered_json ThroughputJson(const ThroughputResult& result);
// A bar a class of op, a panel a profile.
std::string ThroughputSvg(const ThroughputResult& result);

}  // namespace comet
