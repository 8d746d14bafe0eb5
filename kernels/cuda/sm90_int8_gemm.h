#pragma once

#include "kernels/cuda/sm90_tensor_map.h"
#include "kernels/ops/linear.h"

namespace comet::cuda {
class Launcher;
}

namespace comet::sm90 {

// The INT8 product of kernels/ops/linear.h on Hopper, for more tokens than mma.sync keeps up with.
// Immutable after Create(); Run() neither allocates nor waits, needs no workspace, and can be
// captured in a graph.
class Int8Gemm {
 public:
  // For fewer the narrower tiles of mma.sync are as fast or faster.
  static constexpr int kTokensMin = 33;

  // Errors: kUnimplemented: the current device is no sm_90; kInternal: the driver's answer.
  static Result<Int8Gemm> Create();

  // `args.weights` is a RowWeights of INT8 rows (anything else is a bug). Errors: those
  // of Validate(args); kUnimplemented: the codes' address or row stride is no multiple of 16 bytes,
  // which the copy engine needs.
  Status Run(const LinearArgs& args, cuda::Launcher& launcher) const;

 private:
  Int8Gemm(int num_sms, TensorMapEncoder encoder) : num_sms_(num_sms), encoder_(encoder) {}

  int num_sms_;
  TensorMapEncoder encoder_;
};

}  // namespace comet::sm90
