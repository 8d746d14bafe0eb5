// See reorder_rows.cuh.

#include "kernels/cuda/reorder_rows.cuh"
#include "kernels/cuda/row_ops.h"

namespace comet::cuda {

Status RmsNorm(const RmsNormArgs& args, Launcher& launcher) {
  COMET_RETURN_IF_ERROR(Validate(args));
  const int num_rows = args.out.num_tokens();
  if (num_rows == 0 || args.out.num_channels() == 0) return Status::Ok();
  const ReorderParams params{
      .out = MakeRowOutputParams(args.out),
      .x = args.x.data(),
      .x_row_stride = args.x.stride(0),
      .gather = args.gather.is_present() ? args.gather.as<int32_t>() : nullptr,
      .weight = args.weight.as<float>(),
      .rows = args.rows.is_present() ? args.rows.as<int32_t>() : nullptr,
      .epsilon = args.epsilon};
  const auto launch = args.x.dtype() == DType::kF16 ? LaunchReorder<__half, /*kNorm=*/true>
                                                    : LaunchReorder<float, /*kNorm=*/true>;
  return launch("rms_norm", params, HasAlignedRows(args.x, 16), num_rows, launcher);
}

}  // namespace comet::cuda
