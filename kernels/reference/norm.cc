#include "kernels/ops/norm.h"

#include <cmath>
#include <vector>

#include "kernels/base/exact_math.h"
#include "kernels/reference/elements.h"
#include "kernels/reference/linear_input.h"
#include "kernels/reference/reference_ops.h"

namespace comet {

Status ReferenceOps::RmsNorm(const RmsNormArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  const int hidden_size = args.x.dim(1);
  std::vector<float> normed(static_cast<size_t>(hidden_size));
  for (int row = 0; row < args.out.num_tokens() && hidden_size > 0; ++row) {
    const int t = args.rows.is_present() ? reference::LoadInt(args.rows, row) : row;
    std::vector<float> lanes(kSumLanes, 0.0f);
    for (int h = 0; h < hidden_size; ++h) {
      const float x = reference::LoadFloat(args.x, t, h);
      lanes[static_cast<size_t>(h % kSumLanes)] += x * x;
    }
    const float mean = SumAdjacentLanes(lanes.data()) / static_cast<float>(hidden_size);
    const float inverse_rms = 1.0f / std::sqrt(mean + args.epsilon);
    for (int j = 0; j < hidden_size; ++j) {
      const int h = args.gather.is_present() ? reference::LoadInt(args.gather, j) : j;
      normed[static_cast<size_t>(j)] =
          (reference::LoadFloat(args.x, t, h) * inverse_rms) * reference::LoadFloat(args.weight, h);
    }
    reference::WriteLinearInput(normed, row, args.out);
  }
  return Status::Ok();
}

}  // namespace comet
