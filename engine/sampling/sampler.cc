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
constexpr int64_t kWordBytes = 4;
constexpr int kInputArrays = 14;

int64_t InputWords(const SamplerLimits& limits) {
  const int64_t rows_max = limits.rows_max;
  return 8 * rows_max + 2 * (rows_max + 1) + 2 * limits.history_tokens_max +
         2 * rows_max * kLogitBiasesMax;
}

// Where a step's results lie in the block that one copy fetches. The tokens come first, so that
// they have the same address in every step.
struct OutputLayout {
  OutputLayout(int num_rows, int num_top) {
    const auto take = [this](int64_t num_words) {
      const int64_t offset = num_bytes;
      num_bytes = AlignUp(offset + num_words * kWordBytes, kDeviceAlignment);
      return offset;
    };
    token = take(num_rows);
    logprob = take(num_rows);
    nonfinite_count = take(num_rows);
    top_ids = take(int64_t{num_rows} * num_top);
    top_logprobs = take(int64_t{num_rows} * num_top);
  }

  int64_t token;
  int64_t logprob;
  int64_t nonfinite_count;
  int64_t top_ids;
  int64_t top_logprobs;
  int64_t num_bytes = 0;
};

template <typename T>
void Unpack(const DeviceBuffer& block, int64_t offset, size_t count, std::vector<T>& values) {
  static_assert(sizeof(T) == kWordBytes);
  values.resize(count);
  if (count == 0) return;
  std::memcpy(values.data(), static_cast<const std::byte*>(block.data()) + offset,
              count * sizeof(T));
}

}  // namespace

Result<std::unique_ptr<Sampler>> Sampler::Create(Device& device, Ops& ops,
                                                 const SamplerLimits& limits) {
  std::unique_ptr<Sampler> sampler(new Sampler(device, ops, limits));
  COMET_ASSIGN_OR_RETURN(sampler->upload_,
                         StepUpload::Create(device, InputWords(limits), kInputArrays));
  const int64_t output_bytes = OutputLayout(limits.rows_max, kTopLogprobsMax).num_bytes;
  COMET_ASSIGN_OR_RETURN(sampler->output_, device.Allocate(output_bytes));
  COMET_RETURN_IF_ERROR(device.FillZero(sampler->output_.data(), output_bytes));
  COMET_ASSIGN_OR_RETURN(
      sampler->scratch_,
      device.Allocate(ops.UsesSampleScratch()
                          ? int64_t{limits.rows_max} * limits.vocab_size * BytesOf(DType::kF32)
                          : 0));
  for (Slot& slot : sampler->slots_) {
    COMET_ASSIGN_OR_RETURN(slot.staging, device.AllocateStaging(output_bytes));
    COMET_ASSIGN_OR_RETURN(slot.is_done, device.CreateEvent());
  }
  return sampler;
}

ConstTensorView Sampler::tokens() const {
  return {output_.data(), DType::kI32, {limits_.rows_max}};
}

Status Sampler::Start(const SampleRows& rows, ConstTensorView logits) {
  COMET_CHECK(num_started_ - num_finished_ < static_cast<int64_t>(slots_.size()));
  Slot& slot = slots_[static_cast<size_t>(num_started_) % slots_.size()];
  ++num_started_;
  slot.num_rows = rows.num_rows();
  slot.num_top = rows.num_top;
  if (slot.num_rows == 0) return slot.is_done->Record();

  const int num_rows = slot.num_rows;
  COMET_CHECK(num_rows <= limits_.rows_max && num_rows == logits.dim(0));
  SampleArgs args;
  args.logits = logits;
  if (ops_.UsesSampleScratch()) {
    args.scratch = TensorView(scratch_.data(), DType::kF32, {num_rows, limits_.vocab_size});
  }
  COMET_RETURN_IF_ERROR(upload_.Begin());
  args.temperature = upload_.Add(rows.temperature);
  args.top_k = upload_.Add(rows.top_k);
  args.top_p = upload_.Add(rows.top_p);
  args.min_p = upload_.Add(rows.min_p);
  args.repetition_penalty = upload_.Add(rows.repetition_penalty);
  args.presence_penalty = upload_.Add(rows.presence_penalty);
  args.frequency_penalty = upload_.Add(rows.frequency_penalty);
  args.uniform = upload_.Add(rows.uniform);
  args.history_start = upload_.Add(rows.history_start);
  args.history_ids = upload_.Add(rows.history_ids);
  args.history_counts = upload_.Add(rows.history_counts);
  args.bias_start = upload_.Add(rows.bias_start);
  args.bias_ids = upload_.Add(rows.bias_ids);
  args.bias_values = upload_.Add(rows.bias_values);

  const OutputLayout layout(num_rows, rows.num_top);
  const auto output = [&](int64_t offset, DType dtype, TensorShape shape) {
    return TensorView(static_cast<std::byte*>(output_.data()) + offset, dtype, shape);
  };
  args.token = output(layout.token, DType::kI32, {num_rows});
  args.logprob = output(layout.logprob, DType::kF32, {num_rows});
  args.nonfinite_count = output(layout.nonfinite_count, DType::kI32, {num_rows});
  if (rows.num_top > 0) {
    args.top_ids = output(layout.top_ids, DType::kI32, {num_rows, rows.num_top});
    args.top_logprobs = output(layout.top_logprobs, DType::kF32, {num_rows, rows.num_top});
  }

  COMET_RETURN_IF_ERROR(upload_.Send());
  COMET_RETURN_IF_ERROR(ops_.Sample(args));
  COMET_RETURN_IF_ERROR(
      device_.StartCopyToHost(slot.staging.data(), output_.data(), layout.num_bytes));
  return slot.is_done->Record();
}

Result<const SampleResults*> Sampler::Finish() {
  COMET_CHECK(num_finished_ < num_started_);
  const Slot& slot = slots_[static_cast<size_t>(num_finished_) % slots_.size()];
  ++num_finished_;
  COMET_RETURN_IF_ERROR(slot.is_done->Wait());

  const size_t num_rows = static_cast<size_t>(slot.num_rows);
  const size_t num_top = num_rows * static_cast<size_t>(slot.num_top);
  const OutputLayout layout(slot.num_rows, slot.num_top);
  Unpack(slot.staging, layout.token, num_rows, results_.token);
  Unpack(slot.staging, layout.logprob, num_rows, results_.logprob);
  Unpack(slot.staging, layout.nonfinite_count, num_rows, results_.nonfinite_count);
  Unpack(slot.staging, layout.top_ids, num_top, results_.top_ids);
  Unpack(slot.staging, layout.top_logprobs, num_top, results_.top_logprobs);
  results_.num_top = slot.num_top;
  return &results_;
}

}  // namespace comet
