#pragma once

#include <vector>

#include "engine/model/model.h"
#include "engine/scheduler/step_plan.h"

namespace comet {

// A plan in the form Model::Forward() takes: host arrays, reserved once. Confined to the step
// thread.
class StepBatch {
 public:
  explicit StepBatch(const ModelLimits& limits);

  // Replaces the content by the plan's. Row i of the logits is the i-th planned sequence that needs
  // them.
  void Fill(const StepPlan& plan);

  // Valid until the next Fill().
  StepInput input() const;
  int num_logits_rows() const { return static_cast<int>(logits_rows_.size()); }

 private:
  size_t pages_per_sequence_max_;
  std::vector<int> token_ids_;
  std::vector<int> query_start_;
  std::vector<int> context_length_;
  std::vector<int> page_table_;
  std::vector<int> logits_rows_;
};

}  // namespace comet
