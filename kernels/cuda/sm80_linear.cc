#include "kernels/cuda/sm80_linear.h"

#include "kernels/cuda/sm80_pack.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

namespace comet::sm80 {

static_assert(kUnitOutputs == cuda::kUnitOutputs && kUnitChannels == cuda::kUnitChannels &&
              kUnitBytes == cuda::kUnitBytes);

W4axLinear::W4axLinear(int num_outputs, int num_inputs, int num_int4_channels)
    : UnitLinear(num_outputs, num_inputs, num_int4_channels, PackUnits) {}

Result<std::unique_ptr<W4axLinear>> W4axLinear::Pack(cuda::StagedUpload& upload,
                                                     const W4axWeights& weights) {
  std::unique_ptr<W4axLinear> packed(
      new W4axLinear(weights.codes.dim(0), 2 * weights.codes.dim(1), weights.num_int4_channels));
  COMET_RETURN_IF_ERROR(packed->Fill(upload, weights));
  return packed;
}

Result<std::unique_ptr<W4axLinear>> W4axLinear::PackRandom(cuda::StagedUpload& upload,
                                                           const RandomLinear& linear) {
  std::unique_ptr<W4axLinear> packed(
      new W4axLinear(linear.num_outputs, linear.num_inputs, linear.num_int4_channels));
  COMET_RETURN_IF_ERROR(packed->FillRandom(upload, linear));
  return packed;
}

}  // namespace comet::sm80
