// See reorder_rows.cuh.

#include "kernels/cuda/reorder_rows.cuh"
#include "kernels/cuda/row_ops.h"

namespace comet::cuda {

Status Gather(const GatherArgs& args, Launcher& launcher) {
  COMET_RETURN_IF_ERROR(Validate(args));
  const int num_rows = args.x.dim(0);
  if (num_rows == 0 || args.x.dim(1) == 0) return Status::Ok();
  const ReorderParams params{
      .out = MakeRowOutputParams(args.out),
      .x = args.x.data(),
      .x_row_stride = args.x.stride(0),
      .gather = args.gather.is_present() ? args.gather.as<int32_t>() : nullptr};
  const auto launch = args.x.dtype() == DType::kF16 ? LaunchReorder<__half, /*kNorm=*/false>
                                                    : LaunchReorder<float, /*kNorm=*/false>;
  return launch("gather", params, HasAlignedRows(args.x, 16), num_rows, launcher);
}

}  // namespace comet::cuda
