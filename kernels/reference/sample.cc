#include "kernels/ops/sample.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "kernels/base/exact_math.h"
#include "kernels/reference/elements.h"
#include "kernels/reference/reference_ops.h"

namespace comet {
namespace {

constexpr float kGreedyBelow = 0x1p-20f;

// Sum() of the contract.
float SumById(std::span<const float> values) {
  std::vector<float> lanes(kSumLanes, 0.0f);
  for (size_t i = 0; i < values.size(); ++i) lanes[i % kSumLanes] += values[i];
  return SumAdjacentLanes(lanes.data());
}

// Ids by (value descending, id ascending).
std::vector<int> SortedIds(std::span<const float> values) {
  std::vector<int> ids(values.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int a, int b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  return ids;
}

std::vector<float> ExpBelowMax(std::span<const float> values) {
  const float max = *std::max_element(values.begin(), values.end());
  std::vector<float> out;
  for (const float value : values) out.push_back(Exp(value - max));
  return out;
}

bool IsGreedy(const SampleArgs& args, int r) {
  return reference::LoadFloat(args.temperature, r) < kGreedyBelow;
}

int CountNonFinite(std::span<const float> values) {
  return static_cast<int>(std::count_if(values.begin(), values.end(),
                                        [](float value) { return !std::isfinite(value); }));
}

// Step 2 of the contract, and the temperature.
std::vector<float> Adjusted(const SampleArgs& args, int r, std::vector<float> z) {
  for (int i = reference::LoadInt(args.bias_start, r);
       i < reference::LoadInt(args.bias_start, r + 1); ++i) {
    z[static_cast<size_t>(reference::LoadInt(args.bias_ids, i))] +=
        reference::LoadFloat(args.bias_values, i);
  }
  const float repetition = reference::LoadFloat(args.repetition_penalty, r);
  const float frequency = reference::LoadFloat(args.frequency_penalty, r);
  const float presence = reference::LoadFloat(args.presence_penalty, r);
  for (int i = reference::LoadInt(args.history_start, r);
       i < reference::LoadInt(args.history_start, r + 1); ++i) {
    float& value = z[static_cast<size_t>(reference::LoadInt(args.history_ids, i))];
    const int count = reference::LoadInt(args.history_counts, i);
    value = value > 0.0f ? value / repetition : value * repetition;
    if (count > 0) value -= frequency * static_cast<float>(count) + presence;
  }
  if (!IsGreedy(args, r)) {
    for (float& value : z) value = value / reference::LoadFloat(args.temperature, r);
  }
  return z;
}

// Sum() of the weights of the first `num_kept` candidates; the others count as 0.
float SumOfKept(std::span<const float> weights, std::span<const int> candidates, size_t num_kept) {
  std::vector<float> kept(weights.size(), 0.0f);
  for (size_t i = 0; i < num_kept; ++i) {
    const size_t id = static_cast<size_t>(candidates[i]);
    kept[id] = weights[id];
  }
  return SumById(kept);
}

int Choose(const SampleArgs& args, int r, std::span<const float> z) {
  if (IsGreedy(args, r)) return SortedIds(z)[0];
  const std::vector<int> candidates = SortedIds(z);
  const std::vector<float> weights = ExpBelowMax(z);
  const auto weight_at = [&](size_t i) { return weights[static_cast<size_t>(candidates[i])]; };

  size_t num_kept = candidates.size();
  const int top_k = reference::LoadInt(args.top_k, r);
  if (top_k > 0) num_kept = std::min(num_kept, static_cast<size_t>(top_k));
  const float top_p = reference::LoadFloat(args.top_p, r);
  if (top_p < 1.0f) {
    const float target = top_p * SumOfKept(weights, candidates, num_kept);
    float running = weight_at(0);
    size_t num_prefix = 1;
    while (num_prefix < num_kept && running < target) running += weight_at(num_prefix++);
    num_kept = num_prefix;
  }
  const float min_p = reference::LoadFloat(args.min_p, r);
  size_t num_likely = 1;
  while (num_likely < num_kept && weight_at(num_likely) >= min_p) ++num_likely;
  num_kept = num_likely;

  const float target =
      reference::LoadFloat(args.uniform, r) * SumOfKept(weights, candidates, num_kept);
  float running = 0.0f;
  for (size_t i = 0; i < num_kept; ++i) {
    running += weight_at(i);
    if (running > target) return candidates[i];
  }
  return candidates[num_kept - 1];
}

// log_softmax of the raw logits.
class LogProbabilities {
 public:
  explicit LogProbabilities(std::span<const float> raw)
      : raw_(raw),
        max_(*std::max_element(raw.begin(), raw.end())),
        log_sum_(std::log(SumById(ExpBelowMax(raw)))) {}

  float operator[](int id) const { return (raw_[static_cast<size_t>(id)] - max_) - log_sum_; }

 private:
  std::span<const float> raw_;
  float max_;
  float log_sum_;
};

void WriteTop(const SampleArgs& args, int r, std::span<const float> raw, bool is_finite) {
  if (!args.top_ids.is_present()) return;
  int32_t* ids = args.top_ids.as<int32_t>() + r * args.top_ids.stride(0);
  float* logprobs = args.top_logprobs.as<float>() + r * args.top_logprobs.stride(0);
  const int num_top = args.top_ids.dim(1);
  std::fill(ids, ids + num_top, -1);
  std::fill(logprobs, logprobs + num_top, 0.0f);
  if (!is_finite) return;
  const std::vector<int> sorted = SortedIds(raw);
  const LogProbabilities log_probabilities(raw);
  for (int i = 0; i < num_top; ++i) {
    ids[i] = sorted[static_cast<size_t>(i)];
    logprobs[i] = log_probabilities[ids[i]];
  }
}

}  // namespace

Status ReferenceOps::Sample(const SampleArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  for (int r = 0; r < args.logits.dim(0); ++r) {
    std::vector<float> raw;
    for (int id = 0; id < args.logits.dim(1); ++id) {
      raw.push_back(reference::LoadFloat(args.logits, r, id));
    }
    int num_nonfinite = CountNonFinite(raw);
    const std::vector<float> z = Adjusted(args, r, raw);
    if (num_nonfinite == 0) num_nonfinite = CountNonFinite(z);
    const bool is_finite = num_nonfinite == 0;
    const int token = is_finite ? Choose(args, r, z) : -1;
    args.token.as<int32_t>()[r] = token;
    args.nonfinite_count.as<int32_t>()[r] = num_nonfinite;
    args.logprob.as<float>()[r] = is_finite ? LogProbabilities(raw)[token] : 0.0f;
    WriteTop(args, r, raw, is_finite);
  }
  return Status::Ok();
}

}  // namespace comet
