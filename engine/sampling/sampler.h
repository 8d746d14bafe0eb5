#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/device/step_upload.h"
#include "engine/sampling/sample_rows.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/device.h"
#include "kernels/ops.h"

namespace comet {

// Most a Sampler is asked for in one step; its memory is allocated for it.
struct SamplerLimits {
  int rows_max = 0;
  int vocab_size = 0;
  int64_t history_tokens_max = 0;  // Distinct tokens of all rows together.
};

// What Ops::Sample chose, one row a sequence, in host memory.
struct SampleResults {
  std::vector<int32_t> token;  // -1: the row has a NaN or infinite logit.
  std::vector<float> logprob;
  std::vector<int32_t> nonfinite_count;
  std::vector<int32_t> top_ids;  // [num_rows, num_top]
  std::vector<float> top_logprobs;
  int num_top = 0;
};

// Runs Ops::Sample over a step's logits: one copy takes the rows' arrays there, another the results
// back. At most two steps are on their way, so that the next one is issued while one computes.
// Memory is allocated once, at Create(). Confined to the step thread.
class Sampler {
 public:
  // Errors: those of Device::Allocate(). `device` and `ops` outlive the sampler.
  static Result<std::unique_ptr<Sampler>> Create(Device& device, Ops& ops,
                                                 const SamplerLimits& limits);

  // Issues the sampling of a step; without rows just marks its end. `rows` are within the limits,
  // and as many as logits has.
  Status Start(const SampleRows& rows, ConstTensorView logits);
  // Waits for the first step started and not finished. Valid until the next call. Errors: the
  // device's, of everything up to that step.
  Result<const SampleResults*> Finish();

  // Device memory, [rows_max] i32: what the step started last chooses.
  ConstTensorView tokens() const;

 private:
  // A step's results on their way.
  struct Slot {
    DeviceBuffer staging;
    std::unique_ptr<DeviceEvent> is_done;
    int num_rows = 0;
    int num_top = 0;
  };

  Sampler(Device& device, Ops& ops, const SamplerLimits& limits)
      : device_(device), ops_(ops), limits_(limits) {}

  Device& device_;
  Ops& ops_;
  const SamplerLimits limits_;
  StepUpload upload_;
  DeviceBuffer output_;
  DeviceBuffer scratch_;  // SampleArgs::scratch; empty where the ops need none.
  std::array<Slot, 2> slots_;
  int64_t num_started_ = 0;
  int64_t num_finished_ = 0;
  SampleResults results_;
};

}  // namespace comet
