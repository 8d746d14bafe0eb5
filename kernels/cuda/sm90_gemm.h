#pragma once

#include <memory>

#include "kernels/cuda/sm90_gemm_choice.h"
#include "kernels/cuda/sm90_linear.h"
#include "kernels/cuda/sm90_tensor_map.h"
#include "kernels/ops/linear.h"

namespace comet::sm90 {

class GemmPlans;

// The W4Ax product of kernels/ops/linear.h on Hopper, integer inputs in both modes. Run() allocates
// nothing on the device, waits for nothing, needs no workspace, and can be captured in a graph.
// Confined to the step thread.
// Its launches allow programmatic dependent launch: weights may be read before the kernel before it
// in the stream has ended, all other arguments only after.
class W4axGemm {
 public:
  // Errors: kUnimplemented: the current device is no sm_90; kInternal: the driver's answer.
  static Result<W4axGemm> Create();
  W4axGemm(W4axGemm&&) noexcept;
  W4axGemm& operator=(W4axGemm&&) noexcept;
  ~W4axGemm();

  // `args.weights` is a W4axLinear (anything else is a bug). `stream` is a cudaStream_t.
  // Errors: those of Validate(args); kUnimplemented: the codes' address or row stride is no
  // multiple of 16 bytes, which the copy engine needs.
  Status Run(const LinearArgs& args, void* stream);
  // The same with a config of kGemmConfigs in place of the chosen one.
  Status Run(const LinearArgs& args, const GemmConfig& config, void* stream) const;

 private:
  W4axGemm(int num_sms, TensorMapEncoder encoder);

  int num_sms_;
  TensorMapEncoder encoder_;
  std::unique_ptr<GemmPlans> plans_;
};

}  // namespace comet::sm90
