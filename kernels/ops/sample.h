#pragma once

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"

namespace comet {

inline constexpr int kTopLogprobsMax = 20;

// Chooses one token a row from logits.
//   1. raw = logits[r]; log-probabilities reported are those of raw:
//      (raw[id] - max raw) - log(Sum(Exp(raw - max raw))), see Sum() below. The top ones are sorted
//      by (raw descending, id ascending).
//   2. z = raw + bias of the row's bias list; for each history entry (id, count, in_output):
//        repetition: z[id] = z[id] > 0 ? z[id] / repetition_penalty : z[id] * repetition_penalty
//        output tokens (count > 0): z[id] -= frequency_penalty * float(count) + presence_penalty
//      The history lists every distinct token of prompt and output once; count counts output only.
//   3. temperature = 0 (or below 2^-20): the largest z, the lowest id among equals. Otherwise
//      z /= temperature, w = Exp(z - max z), and candidates are sorted by (z descending, id
//      ascending), cut to top_k (0 or less: all), then to the shortest prefix whose running sum of
//      w reaches top_p * Sum(w of those left) (top_p >= 1: all), then to the prefix before the
//      first with w < min_p; the first candidate always stays. The choice is the first candidate at
//      which the running sum of w exceeds uniform * Sum(w of those kept), else the last one kept.
//      Running sums go down the sorted candidates one by one. Sum() is over ids in 1024 lanes, as
//      in rms_norm, with 0 for ids that are cut: it needs no sorting.
// A row with NaN or infinities among the logits or, if not there, among z (by its penalties or its
// temperature) counts them in nonfinite_count, else 0, and chooses token -1 with logprob 0 and top
// ids -1: the caller fails it.
//
// Shapes    logits [num_rows, vocab_size] f32, rows may be strided, not changed.
//           temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty,
//           uniform [num_rows] f32; top_k [num_rows] i32.
//           history_start, bias_start [num_rows + 1] i32; history_ids, history_counts
//           [history_start[num_rows]] i32; bias_ids [bias_start[num_rows]] i32, bias_values f32.
//           token, nonfinite_count [num_rows] i32; logprob [num_rows] f32;
//           top_ids, top_logprobs [num_rows, num_top] i32, f32, num_top 0..kTopLogprobsMax,
//           optional. scratch [num_rows, vocab_size] f32, contiguous.
// Numerics  fp32, single IEEE operations, none contracted; log is the device's, within 2 ulp. Equal
//           bits for equal rows whatever num_rows.
// Source    Holtzman et al. 2019, arXiv:1904.09751 (top-p); Nguyen et al. 2024, arXiv:2407.01082
//           (min-p); Keskar et al. 2019, arXiv:1909.05858 (repetition penalty).
struct SampleArgs {
  TensorView token;
  TensorView logprob;
  TensorView nonfinite_count;
  TensorView top_ids{};       // Optional.
  TensorView top_logprobs{};  // Optional, with top_ids.
  TensorView scratch{};       // Where Ops::UsesSampleScratch().
  ConstTensorView logits;
  ConstTensorView temperature;
  ConstTensorView top_k;
  ConstTensorView top_p;
  ConstTensorView min_p;
  ConstTensorView repetition_penalty;
  ConstTensorView presence_penalty;
  ConstTensorView frequency_penalty;
  ConstTensorView uniform;
  ConstTensorView history_start;
  ConstTensorView history_ids;
  ConstTensorView history_counts;
  ConstTensorView bias_start;
  ConstTensorView bias_ids;
  ConstTensorView bias_values;
};

Status Validate(const SampleArgs& args);

}  // namespace comet
