#include "kernels/ops/sample.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "kernels/base/exact_math.h"
#include "kernels/cpu/candidate_order.h"
#include "kernels/cpu/cpu_ops.h"

namespace comet {
namespace {

constexpr float kGreedyBelow = 0x1p-20f;

template <typename T>
T At(const ConstTensorView& column, int i) {
  return column.as<T>()[i];
}

// Step 2 of the contract, in place.
void Adjust(const SampleArgs& args, int r, std::span<float> z) {
  for (int i = At<int32_t>(args.bias_start, r); i < At<int32_t>(args.bias_start, r + 1); ++i) {
    const size_t id = static_cast<size_t>(At<int32_t>(args.bias_ids, i));
    COMET_CHECK(id < z.size());
    z[id] += At<float>(args.bias_values, i);
  }
  const float repetition = At<float>(args.repetition_penalty, r);
  const float frequency = At<float>(args.frequency_penalty, r);
  const float presence = At<float>(args.presence_penalty, r);
  const int history_end = At<int32_t>(args.history_start, r + 1);
  for (int i = At<int32_t>(args.history_start, r); i < history_end; ++i) {
    const size_t id = static_cast<size_t>(At<int32_t>(args.history_ids, i));
    COMET_CHECK(id < z.size());
    const int count = At<int32_t>(args.history_counts, i);
    z[id] = z[id] > 0.0f ? z[id] / repetition : z[id] * repetition;
    if (count > 0) z[id] -= frequency * static_cast<float>(count) + presence;
  }
}

// One row's candidates with their weights, best first.
class Candidates {
 public:
  struct Buffers {
    float* weights;
    cpu::Scratch<int>& ids;
    cpu::Scratch<int>& kept_ids;
  };

  Candidates(const cpu::KernelTable& kernels, std::span<const float> z, const Buffers& buffers)
      : kernels_(kernels),
        order_(z, buffers.ids),
        kept_ids_(buffers.kept_ids),
        weights_(buffers.weights),
        num_ids_(static_cast<int>(z.size())),
        num_kept_(num_ids_) {
    kernels.exp_below(z.data(), kernels.max_value(z.data(), num_ids_), num_ids_, buffers.weights);
  }

  void CutToTopK(int top_k) {
    if (top_k > 0) num_kept_ = std::min(num_kept_, top_k);
  }

  void CutToTopP(float top_p) {
    if (!(top_p < 1.0f)) return;
    const float target = top_p * SumOfKept();
    float running = WeightAt(0);
    int num_prefix = 1;
    while (num_prefix < num_kept_ && running < target) running += WeightAt(num_prefix++);
    num_kept_ = num_prefix;
  }

  void CutToMinP(float min_p) {
    if (!(min_p > 0.0f)) return;
    int num_prefix = 1;
    while (num_prefix < num_kept_ && WeightAt(num_prefix) >= min_p) ++num_prefix;
    num_kept_ = num_prefix;
  }

  int Choose(float uniform) {
    const float target = uniform * SumOfKept();
    float running = 0.0f;
    for (int i = 0; i < num_kept_; ++i) {
      running += WeightAt(i);
      if (running > target) return order_[i];
    }
    return order_[num_kept_ - 1];
  }

 private:
  float WeightAt(int i) { return weights_[order_[i]]; }

  // Sum() of the contract. A lane adds its ids in ascending order, and ids that are cut add
  // nothing.
  float SumOfKept() {
    if (num_kept_ == num_ids_) return kernels_.sum_lanes(weights_, num_ids_);
    int* ids = kept_ids_.Get(num_kept_);
    for (int i = 0; i < num_kept_; ++i) ids[i] = order_[i];
    std::sort(ids, ids + num_kept_);
    float lanes[kSumLanes] = {};
    for (int i = 0; i < num_kept_; ++i) lanes[ids[i] % kSumLanes] += weights_[ids[i]];
    return SumAdjacentLanes(lanes);
  }

  const cpu::KernelTable& kernels_;
  cpu::CandidateOrder order_;
  cpu::Scratch<int>& kept_ids_;
  const float* weights_;
  int num_ids_;
  int num_kept_;
};

void WriteTop(const SampleArgs& args, int r, std::span<const float> raw, float raw_max,
              float log_sum, cpu::Scratch<int>& scratch) {
  if (!args.top_ids.is_present()) return;
  cpu::CandidateOrder order(raw, scratch);
  int32_t* ids = args.top_ids.as<int32_t>() + r * args.top_ids.stride(0);
  float* logprobs = args.top_logprobs.as<float>() + r * args.top_logprobs.stride(0);
  for (int i = 0; i < args.top_ids.dim(1); ++i) {
    ids[i] = order[i];
    logprobs[i] = (raw[static_cast<size_t>(ids[i])] - raw_max) - log_sum;
  }
}

void FailRow(const SampleArgs& args, int r, int num_nonfinite) {
  args.token.as<int32_t>()[r] = -1;
  args.logprob.as<float>()[r] = 0.0f;
  args.nonfinite_count.as<int32_t>()[r] = num_nonfinite;
  if (!args.top_ids.is_present()) return;
  const int num_top = args.top_ids.dim(1);
  std::fill_n(args.top_ids.as<int32_t>() + r * args.top_ids.stride(0), num_top, -1);
  std::fill_n(args.top_logprobs.as<float>() + r * args.top_logprobs.stride(0), num_top, 0.0f);
}

}  // namespace

Status CpuOps::Sample(const SampleArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  pool().ParallelFor(args.logits.dim(0), [&](int r, int thread_idx) {
    SampleRow(args, r, scratch_[static_cast<size_t>(thread_idx)]);
  });
  return Status::Ok();
}

void CpuOps::SampleRow(const SampleArgs& args, int r, ThreadScratch& scratch) const {
  const int vocab_size = args.logits.dim(1);
  const std::span<const float> raw(args.logits.as<float>() + r * args.logits.stride(0),
                                   static_cast<size_t>(vocab_size));
  const int num_nonfinite_raw = kernels_.count_nonfinite(raw.data(), vocab_size);
  if (num_nonfinite_raw > 0) return FailRow(args, r, num_nonfinite_raw);

  const std::span<float> z(scratch.row.Get(vocab_size), raw.size());
  std::copy(raw.begin(), raw.end(), z.begin());
  Adjust(args, r, z);
  const float temperature = At<float>(args.temperature, r);
  const bool is_greedy = temperature < kGreedyBelow;
  if (!is_greedy) kernels_.divide(z.data(), temperature, vocab_size);
  const int num_nonfinite = kernels_.count_nonfinite(z.data(), vocab_size);
  if (num_nonfinite > 0) return FailRow(args, r, num_nonfinite);

  float* weights = scratch.second_row.Get(vocab_size);
  int token = 0;
  if (is_greedy) {
    const float max = kernels_.max_value(z.data(), vocab_size);
    token = static_cast<int>(std::find(z.begin(), z.end(), max) - z.begin());
  } else {
    Candidates candidates(kernels_, z, {weights, scratch.ids, scratch.kept_ids});
    candidates.CutToTopK(At<int32_t>(args.top_k, r));
    candidates.CutToTopP(At<float>(args.top_p, r));
    candidates.CutToMinP(At<float>(args.min_p, r));
    token = candidates.Choose(At<float>(args.uniform, r));
  }

  const float raw_max = kernels_.max_value(raw.data(), vocab_size);
  kernels_.exp_below(raw.data(), raw_max, vocab_size, weights);
  const float log_sum = std::log(kernels_.sum_lanes(weights, vocab_size));
  args.token.as<int32_t>()[r] = token;
  args.logprob.as<float>()[r] = (raw[static_cast<size_t>(token)] - raw_max) - log_sum;
  args.nonfinite_count.as<int32_t>()[r] = 0;
  WriteTop(args, r, raw, raw_max, log_sum, scratch.ids);
}

}  // namespace comet
