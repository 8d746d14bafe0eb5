#pragma once

#include <memory>

#include "kernels/cuda/cuda_device.h"
#include "kernels/ops/linear.h"

// What the tests hold products of shapes too large for the scalar reference to. Not part of comet.
namespace comet::cuda {

// Weights on the device as the checkpoint holds them: nothing reordered, nothing multiplied out.
Result<std::unique_ptr<PackedLinear>> MakeNaiveLinear(CudaDevice& device,
                                                      const W4axWeights& weights);
Result<std::unique_ptr<PackedLinear>> MakeNaiveLinear(CudaDevice& device,
                                                      const Int8Weights& weights);

// `linear` for integer inputs, one thread an output, channel after channel. `args.weights` come
// from MakeNaiveLinear().
Status NaiveLinear(CudaDevice& device, const LinearArgs& args);

}  // namespace comet::cuda
