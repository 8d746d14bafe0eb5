#pragma once

#include <cstdint>
#include <vector>

#include "engine/sampling/sequence_sampling.h"

namespace comet {

// The inputs of SampleArgs in host memory, one row a sequence that gets a token in this step; see
// kernels/ops/sample.h for each. Confined to the step thread.
struct SampleRows {
  std::vector<float> temperature;
  std::vector<int32_t> top_k;
  std::vector<float> top_p;
  std::vector<float> min_p;
  std::vector<float> repetition_penalty;
  std::vector<float> presence_penalty;
  std::vector<float> frequency_penalty;
  std::vector<float> uniform;
  std::vector<int32_t> history_start;
  std::vector<int32_t> history_ids;
  std::vector<int32_t> history_counts;
  std::vector<int32_t> bias_start;
  std::vector<int32_t> bias_ids;
  std::vector<float> bias_values;
  int num_top = 0;  // The largest any row asks for.

  int num_rows() const { return static_cast<int>(temperature.size()); }

  void Reserve(int rows_max);
  void Clear();
  // For the token at `output_position` of the sequence's output.
  void Add(const SequenceSampling& sampling, int output_position);
};

}  // namespace comet
