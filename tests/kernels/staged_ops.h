#pragma once

#include "kernels/device.h"
#include "kernels/ops.h"

namespace comet {

// Runs a device's ops on tensors in host memory, so that one test serves every back end: copies
// each tensor of a call to device memory between guard bytes, runs the op, waits, and copies what
// it may have written back. Tensors that start at the same address share one copy. A guard byte
// that an op changed is kInternal.
class StagedOps final : public Ops {
 public:
  StagedOps(Device& device, Ops& ops) : device_(device), ops_(ops) {}

  Result<std::unique_ptr<PackedLinear>> PackLinear(const W4axWeights& weights) override {
    return ops_.PackLinear(weights);
  }
  Result<std::unique_ptr<PackedLinear>> PackLinear(const Int8Weights& weights) override {
    return ops_.PackLinear(weights);
  }
  Result<std::unique_ptr<PackedLinear>> PackLinear(const FloatWeights& weights) override {
    return ops_.PackLinear(weights);
  }
  int64_t KvPageBytes(const KvFormat& format, int num_kv_heads, int head_dim) const override {
    return ops_.KvPageBytes(format, num_kv_heads, head_dim);
  }
  int64_t AttentionScratchBytes(int context_length_max, int head_dim) const override {
    return ops_.AttentionScratchBytes(context_length_max, head_dim);
  }
  bool HasInt4Products() const override { return ops_.HasInt4Products(); }
  bool UsesSampleScratch() const override { return ops_.UsesSampleScratch(); }
  std::string_view KernelDescription() const override { return ops_.KernelDescription(); }

  Status Embedding(const EmbeddingArgs& args) override;
  Status RmsNorm(const RmsNormArgs& args) override;
  Status Gather(const GatherArgs& args) override;
  Status SiluMul(const SiluMulArgs& args) override;
  Status Linear(const LinearArgs& args) override;
  Status RopeAppend(const RopeAppendArgs& args) override;
  Status Attention(const AttentionArgs& args) override;
  Status Sample(const SampleArgs& args) override;

 private:
  Device& device_;
  Ops& ops_;
};

}  // namespace comet
