#include "kernels/ops/gather.h"

#include <vector>

#include "kernels/reference/elements.h"
#include "kernels/reference/linear_input.h"
#include "kernels/reference/reference_ops.h"

namespace comet {

Status ReferenceOps::Gather(const GatherArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  std::vector<float> row(static_cast<size_t>(args.x.dim(1)));
  for (int t = 0; t < args.x.dim(0); ++t) {
    for (int j = 0; j < args.x.dim(1); ++j) {
      const int k = args.gather.is_present() ? reference::LoadInt(args.gather, j) : j;
      row[static_cast<size_t>(j)] = reference::LoadFloat(args.x, t, k);
    }
    reference::WriteLinearInput(row, t, args.out);
  }
  return Status::Ok();
}

}  // namespace comet
