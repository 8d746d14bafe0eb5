#include "kernels/cuda/sm80_plan_cache.h"

#include "kernels/base/math.h"

namespace comet::sm80 {
namespace {

// Tiles are multiples of 8 tokens, of 32 where there are more than 256, and of 128 where there are
// more than 384 (ChoosePlan()).
int ClassOf(int num_tokens) {
  const int tokens = num_tokens <= 256 ? 8 : num_tokens <= 384 ? 32 : 128;
  return CeilDiv(num_tokens, tokens) * tokens;
}

}  // namespace

const GemmPlan& PlanCache::PlanOf(const GemmShape& shape) {
  const std::array<int, 4> key = {ClassOf(shape.num_tokens), shape.num_outputs,
                                  shape.num_int8_blocks, shape.num_int4_blocks};
  const auto found = plans_.find(key);
  if (found != plans_.end()) return found->second;
  return plans_.emplace(key, ChoosePlan(shape, rates_)).first->second;
}

void PlanCache::PlanAhead(GemmShape shape) {
  for (shape.num_tokens = 8; shape.num_tokens <= kTokensAhead; shape.num_tokens += 8) {
    PlanOf(shape);
  }
}

}  // namespace comet::sm80
