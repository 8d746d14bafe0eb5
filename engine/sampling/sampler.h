#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

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

// Runs Ops::Sample over a step's logits: puts the rows' arrays into device memory by one copy, and
// takes the results by another. Device memory is allocated once, at Create(). Confined to the step
// thread.
class Sampler {
 public:
  // Errors: those of Device::Allocate(). `device` and `ops` outlive the sampler.
  static Result<std::unique_ptr<Sampler>> Create(Device& device, Ops& ops,
                                                 const SamplerLimits& limits);

  // `rows` are within the limits, and as many as logits has. Valid until the next call.
  // Errors: those of the device and of Ops::Sample.
  Result<const SampleResults*> Run(const SampleRows& rows, ConstTensorView logits);

 private:
  Sampler(Device& device, Ops& ops, const SamplerLimits& limits, DeviceBuffer input,
          DeviceBuffer output, DeviceBuffer scratch);

  // Puts one array into the staging block and says where it will be in device memory.
  ConstTensorView Stage(std::span<const float> values);
  ConstTensorView Stage(std::span<const int32_t> values);
  ConstTensorView StageWords(const void* values, size_t num_words, DType dtype);
  // Takes the next part of the output block.
  TensorView TakeOutput(DType dtype, TensorShape shape);
  // Copies an output's part of the fetched block to `values`.
  template <typename T>
  void Unpack(const TensorView& output, std::vector<T>& values) const;

  Device& device_;
  Ops& ops_;
  const SamplerLimits limits_;
  DeviceBuffer input_;
  DeviceBuffer output_;
  DeviceBuffer scratch_;                   // SampleArgs::scratch; empty where the ops need none.
  std::vector<std::byte> input_staging_;   // Host image of input_.
  std::vector<std::byte> output_staging_;  // Host image of output_.
  size_t input_bytes_ = 0;                 // Staged so far.
  size_t output_bytes_ = 0;                // Taken so far.
  SampleResults results_;
};

}  // namespace comet
