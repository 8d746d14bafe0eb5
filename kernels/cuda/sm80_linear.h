#pragma once

#include <memory>

#include "kernels/cuda/unit_linear.h"

namespace comet::sm80 {

// W4Ax weights in the layout of sm80_w4ax_layout.h.
class W4axLinear final : public cuda::UnitLinear {
 public:
  // `weights` are valid. Errors: those of the device.
  static Result<std::unique_ptr<W4axLinear>> Pack(cuda::StagedUpload& upload,
                                                  const W4axWeights& weights);
  static Result<std::unique_ptr<W4axLinear>> PackRandom(cuda::StagedUpload& upload,
                                                        const RandomLinear& linear);

 private:
  W4axLinear(int num_outputs, int num_inputs, int num_int4_channels);
};

}  // namespace comet::sm80
