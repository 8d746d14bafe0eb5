#include "engine/sampling/sampler.h"

#include <cstring>
#include <utility>

#include "engine/sampling/sampling_check.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/ops/sample.h"

namespace comet {
namespace {

// Every array of SampleArgs has 4-byte elements.
constexpr size_t kWordBytes = 4;
// Arrays start at the alignment Device::Allocate() promises.
constexpr size_t kArrayAlignment = 256;
constexpr int kInputArrays = 14;
constexpr int kOutputArrays = 5;

size_t InputBytes(const SamplerLimits& limits) {
  const size_t rows_max = static_cast<size_t>(limits.rows_max);
  const size_t num_words = 8 * rows_max + 2 * (rows_max + 1) +
                           2 * static_cast<size_t>(limits.history_tokens_max) +
                           2 * rows_max * kLogitBiasesMax;
  return num_words * kWordBytes + kInputArrays * kArrayAlignment;
}

size_t OutputBytes(const SamplerLimits& limits) {
  const size_t rows_max = static_cast<size_t>(limits.rows_max);
  const size_t num_words = 3 * rows_max + 2 * rows_max * kTopLogprobsMax;
  return num_words * kWordBytes + kOutputArrays * kArrayAlignment;
}

}  // namespace

Result<std::unique_ptr<Sampler>> Sampler::Create(Device& device, Ops& ops,
                                                 const SamplerLimits& limits) {
  COMET_ASSIGN_OR_RETURN(DeviceBuffer input,
                         device.Allocate(static_cast<int64_t>(InputBytes(limits))));
  COMET_ASSIGN_OR_RETURN(DeviceBuffer output,
                         device.Allocate(static_cast<int64_t>(OutputBytes(limits))));
  COMET_ASSIGN_OR_RETURN(
      DeviceBuffer scratch,
      device.Allocate(ops.UsesSampleScratch()
                          ? int64_t{limits.rows_max} * limits.vocab_size * BytesOf(DType::kF32)
                          : 0));
  return std::unique_ptr<Sampler>(
      new Sampler(device, ops, limits, std::move(input), std::move(output), std::move(scratch)));
}

Sampler::Sampler(Device& device, Ops& ops, const SamplerLimits& limits, DeviceBuffer input,
                 DeviceBuffer output, DeviceBuffer scratch)
    : device_(device),
      ops_(ops),
      limits_(limits),
      input_(std::move(input)),
      output_(std::move(output)),
      scratch_(std::move(scratch)),
      input_staging_(InputBytes(limits)),
      output_staging_(OutputBytes(limits)) {}

Result<const SampleResults*> Sampler::Run(const SampleRows& rows, ConstTensorView logits) {
  const int num_rows = rows.num_rows();
  COMET_CHECK(num_rows >= 1 && num_rows <= limits_.rows_max && num_rows == logits.dim(0));
  input_bytes_ = 0;
  output_bytes_ = 0;
  SampleArgs args;
  args.logits = logits;
  if (ops_.UsesSampleScratch()) {
    args.scratch = TensorView(scratch_.data(), DType::kF32, {num_rows, limits_.vocab_size});
  }
  args.temperature = Stage(rows.temperature);
  args.top_k = Stage(rows.top_k);
  args.top_p = Stage(rows.top_p);
  args.min_p = Stage(rows.min_p);
  args.repetition_penalty = Stage(rows.repetition_penalty);
  args.presence_penalty = Stage(rows.presence_penalty);
  args.frequency_penalty = Stage(rows.frequency_penalty);
  args.uniform = Stage(rows.uniform);
  args.history_start = Stage(rows.history_start);
  args.history_ids = Stage(rows.history_ids);
  args.history_counts = Stage(rows.history_counts);
  args.bias_start = Stage(rows.bias_start);
  args.bias_ids = Stage(rows.bias_ids);
  args.bias_values = Stage(rows.bias_values);

  args.token = TakeOutput(DType::kI32, {num_rows});
  args.logprob = TakeOutput(DType::kF32, {num_rows});
  args.nonfinite_count = TakeOutput(DType::kI32, {num_rows});
  if (rows.num_top > 0) {
    args.top_ids = TakeOutput(DType::kI32, {num_rows, rows.num_top});
    args.top_logprobs = TakeOutput(DType::kF32, {num_rows, rows.num_top});
  }

  COMET_RETURN_IF_ERROR(device_.CopyToDevice(input_.data(), input_staging_.data(),
                                             static_cast<int64_t>(input_bytes_)));
  COMET_RETURN_IF_ERROR(ops_.Sample(args));
  COMET_RETURN_IF_ERROR(device_.CopyToHost(output_staging_.data(), output_.data(),
                                           static_cast<int64_t>(output_bytes_)));
  Unpack(args.token, results_.token);
  Unpack(args.logprob, results_.logprob);
  Unpack(args.nonfinite_count, results_.nonfinite_count);
  results_.num_top = rows.num_top;
  if (rows.num_top > 0) {
    Unpack(args.top_ids, results_.top_ids);
    Unpack(args.top_logprobs, results_.top_logprobs);
  }
  return &results_;
}

ConstTensorView Sampler::Stage(std::span<const float> values) {
  return StageWords(values.data(), values.size(), DType::kF32);
}

ConstTensorView Sampler::Stage(std::span<const int32_t> values) {
  return StageWords(values.data(), values.size(), DType::kI32);
}

ConstTensorView Sampler::StageWords(const void* values, size_t num_words, DType dtype) {
  const size_t offset = input_bytes_;
  input_bytes_ = offset + AlignUp(num_words * kWordBytes, kArrayAlignment);
  COMET_CHECK(input_bytes_ <= input_staging_.size());
  if (num_words > 0) {
    std::memcpy(input_staging_.data() + offset, values, num_words * kWordBytes);
  }
  return {
      static_cast<const std::byte*>(input_.data()) + offset, dtype, {static_cast<int>(num_words)}};
}

TensorView Sampler::TakeOutput(DType dtype, TensorShape shape) {
  const size_t offset = output_bytes_;
  output_bytes_ =
      offset + AlignUp(static_cast<size_t>(shape.num_elements()) * kWordBytes, kArrayAlignment);
  COMET_CHECK(output_bytes_ <= output_staging_.size());
  return {static_cast<std::byte*>(output_.data()) + offset, dtype, shape};
}

template <typename T>
void Sampler::Unpack(const TensorView& output, std::vector<T>& values) const {
  static_assert(sizeof(T) == kWordBytes);
  const ptrdiff_t offset =
      static_cast<const std::byte*>(output.data()) - static_cast<const std::byte*>(output_.data());
  values.resize(static_cast<size_t>(output.shape().num_elements()));
  std::memcpy(values.data(), output_staging_.data() + offset, values.size() * kWordBytes);
}

}  // namespace comet
