#include "engine/sampling/sample_rows.h"

#include <algorithm>
#include <cstddef>

namespace comet {

void SampleRows::Reserve(int rows_max) {
  const size_t num_rows = static_cast<size_t>(rows_max);
  for (std::vector<float>* column : {&temperature, &top_p, &min_p, &repetition_penalty,
                                     &presence_penalty, &frequency_penalty, &uniform}) {
    column->reserve(num_rows);
  }
  top_k.reserve(num_rows);
  history_start.reserve(num_rows + 1);
  bias_start.reserve(num_rows + 1);
  Clear();
}

void SampleRows::Clear() {
  for (std::vector<float>* column :
       {&temperature, &top_p, &min_p, &repetition_penalty, &presence_penalty, &frequency_penalty,
        &uniform, &bias_values}) {
    column->clear();
  }
  for (std::vector<int32_t>* column : {&top_k, &history_ids, &history_counts, &bias_ids}) {
    column->clear();
  }
  history_start.assign(1, 0);
  bias_start.assign(1, 0);
  num_top = 0;
}

void SampleRows::Add(const SequenceSampling& sampling, int output_position) {
  const SamplingParams& params = sampling.params();
  temperature.push_back(params.temperature);
  top_k.push_back(params.top_k);
  top_p.push_back(params.top_p);
  min_p.push_back(params.min_p);
  repetition_penalty.push_back(params.repetition_penalty);
  presence_penalty.push_back(params.presence_penalty);
  frequency_penalty.push_back(params.frequency_penalty);
  uniform.push_back(sampling.UniformAt(output_position));

  if (const TokenHistory* history = sampling.history()) {
    history_ids.insert(history_ids.end(), history->token_ids().begin(), history->token_ids().end());
    history_counts.insert(history_counts.end(), history->output_counts().begin(),
                          history->output_counts().end());
  }
  history_start.push_back(static_cast<int32_t>(history_ids.size()));

  for (const auto& [token_id, bias] : params.logit_bias) {
    bias_ids.push_back(token_id);
    bias_values.push_back(bias);
  }
  bias_start.push_back(static_cast<int32_t>(bias_ids.size()));
  num_top = std::max(num_top, sampling.num_top_logprobs());
}

}  // namespace comet
