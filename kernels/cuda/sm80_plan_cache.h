#pragma once

#include <array>
#include <map>

#include "kernels/cuda/sm80_gemm_choice.h"

namespace comet::sm80 {

// Plans of products, each made once: choosing one takes longer than launching it. Tokens are
// counted in classes within which the choice is the same: 97 up to 8192 tokens, so that a shape of
// weights has at most so many plans of 1.7 KB, of each of the two forms of codes. Confined to one
// thread.
class PlanCache {
 public:
  // Products of so many tokens are planned ahead: what decoding multiplies.
  static constexpr int kTokensAhead = 256;

  explicit PlanCache(const DeviceRates& rates) : rates_(rates) {}

  // ChoosePlan(shape, rates); stays where it is while the cache lives.
  const GemmPlan& PlanOf(const GemmShape& shape);

  // Makes the plans of `shape` for 1 to kTokensAhead tokens, whatever its num_tokens says.
  void PlanAhead(GemmShape shape);

  int num_plans() const { return static_cast<int>(plans_.size()); }

 private:
  DeviceRates rates_;
  // By class of tokens, outputs, INT8 blocks, INT4 blocks.
  std::map<std::array<int, 4>, GemmPlan> plans_;
};

}  // namespace comet::sm80
