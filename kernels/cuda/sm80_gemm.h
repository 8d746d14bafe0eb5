#pragma once

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/sm80_gemm_choice.h"
#include "kernels/cuda/sm80_linear.h"
#include "kernels/cuda/sm80_plan_cache.h"
#include "kernels/ops/linear.h"

namespace comet::sm80 {

struct GemmInstance;

// The W4Ax product of kernels/ops/linear.h by mma.sync, from sm_80 on: integer inputs of both
// modes, codes as bytes or packed. Packed codes multiply on INT4 tensor cores, which cards before
// sm_90 have; later ones emulate them, exactly and slowly. Run() waits for nothing, allocates
// nothing on the device, and can be captured in a graph. Confined to the step thread; launches of
// one stream share its workspace.
class W4axGemm {
 public:
  // Errors: kUnimplemented: the device is older than sm_80; those of its memory.
  static Result<W4axGemm> Create(CudaDevice& device);

  // Whether the device has INT4 tensor cores.
  bool has_int4_products() const { return has_int4_products_; }
  const DeviceRates& rates() const { return rates_; }

  // Plans the products of `weights` that decoding makes, of codes in bytes and, where the
  // device has INT4 products, packed. Others are planned by the first Run() of their kind, in some
  // 1 ms of host time each.
  void PlanAhead(const PackedLinear& weights);
  int num_plans() const { return plans_.num_plans(); }

  // `args.weights` is a W4axLinear (anything else is a bug). `stream` is a cudaStream_t, the same
  // for all calls. Errors: those of Validate(args); kUnimplemented: codes' address or row stride is
  // no multiple of 16 bytes, or codes or weights span 4 GiB or more.
  Status Run(const LinearArgs& args, void* stream);
  // The same by a plan of the caller's.
  Status Run(const LinearArgs& args, const GemmPlan& plan, void* stream) const;

  // The same by a kernel of the caller's, which is prepared: for measurement.
  Status RunBy(const GemmInstance& instance, const LinearArgs& args, const GemmPlan& plan,
               void* stream) const;

  // What the plan of `args` is chosen by.
  static GemmShape ShapeOf(const LinearArgs& args);

 private:
  static GemmShape ShapeOf(const PackedLinear& weights, int num_tokens, bool packs_int4);
  W4axGemm(const DeviceRates& rates, bool has_int4_products, DeviceBuffer partials,
           DeviceBuffer slots, DeviceBuffer progress)
      : rates_(rates),
        plans_(rates),
        has_int4_products_(has_int4_products),
        partials_(std::move(partials)),
        slots_(std::move(slots)),
        progress_(std::move(progress)) {}

  DeviceRates rates_;
  PlanCache plans_;
  bool has_int4_products_;
  DeviceBuffer partials_;
  DeviceBuffer slots_;
  DeviceBuffer progress_;
};

}  // namespace comet::sm80
