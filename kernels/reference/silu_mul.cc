#include "kernels/ops/silu_mul.h"

#include <span>
#include <vector>

#include "kernels/base/exact_math.h"
#include "kernels/reference/elements.h"
#include "kernels/reference/hadamard.h"
#include "kernels/reference/linear_input.h"
#include "kernels/reference/reference_ops.h"

namespace comet {

Status ReferenceOps::SiluMul(const SiluMulArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  const int ffn_size = args.out.num_channels();
  std::vector<float> row(static_cast<size_t>(ffn_size));
  for (int t = 0; t < args.gate_up.dim(0); ++t) {
    for (int j = 0; j < ffn_size; ++j) {
      const float gate = reference::LoadFloat(args.gate_up, t, j);
      const float up = reference::LoadFloat(args.gate_up, t, ffn_size + j);
      row[static_cast<size_t>(j)] = (gate / (1.0f + Exp(-gate))) * up;
    }
    for (int j = 0; j < args.num_hadamard_channels; j += kBlockChannels) {
      reference::Hadamard(std::span(row).subspan(static_cast<size_t>(j), kBlockChannels));
    }
    reference::WriteLinearInput(row, t, args.out);
  }
  return Status::Ok();
}

}  // namespace comet
