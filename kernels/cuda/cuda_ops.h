#pragma once

#include <memory>
#include <string_view>

#include "kernels/cuda/cuda_device.h"
#include "kernels/ops.h"

namespace comet {

// The ops of one GPU. None has a kernel yet: each call that passes its checks and is not empty is
// kUnimplemented, naming op, shape and device. Confined to the step thread.
class CudaOps final : public Ops {
 public:
  explicit CudaOps(CudaDevice& device) : device_(device) {}

  Result<std::unique_ptr<PackedLinear>> PackLinear(const W4axWeights& weights) override;
  Result<std::unique_ptr<PackedLinear>> PackLinear(const Int8Weights& weights) override;
  Result<std::unique_ptr<PackedLinear>> PackLinear(const FloatWeights& weights) override;

  // Per KV head: K codes | V codes | K (s, m) | V (s, m), contiguous, so that one bulk copy moves
  // it.
  int64_t KvPageBytes(const KvFormat& format, int num_kv_heads, int head_dim) const override;
  std::string_view KernelDescription() const override { return "no op has a cuda kernel"; }

  Status Embedding(const EmbeddingArgs& args) override;
  Status RmsNorm(const RmsNormArgs& args) override;
  Status Gather(const GatherArgs& args) override;
  Status SiluMul(const SiluMulArgs& args) override;
  Status Linear(const LinearArgs& args) override;
  Status RopeAppend(const RopeAppendArgs& args) override;
  Status Attention(const AttentionArgs& args) override;
  Status Sample(const SampleArgs& args) override;

 private:
  Status NoKernel(std::string_view op, const TensorShape& shape) const;

  CudaDevice& device_;
};

}  // namespace comet
