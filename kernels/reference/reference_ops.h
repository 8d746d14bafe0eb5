#pragma once

#include <memory>
#include <string_view>

#include "kernels/ops.h"

namespace comet {

// Every op in scalar code that follows its contract line by line: what the other back ends are
// tested against. Slow, and it allocates while it runs. Confined to the step thread.
class ReferenceOps final : public Ops {
 public:
  Result<std::unique_ptr<PackedLinear>> PackLinear(const W4axWeights& weights) override;
  Result<std::unique_ptr<PackedLinear>> PackLinear(const Int8Weights& weights) override;
  Result<std::unique_ptr<PackedLinear>> PackLinear(const FloatWeights& weights) override;

  int64_t KvPageBytes(const KvFormat& format, int num_kv_heads, int head_dim) const override;
  int64_t AttentionScratchBytes(int, int) const override { return 0; }
  bool UsesSampleScratch() const override { return false; }
  std::string_view KernelDescription() const override { return "every op: scalar reference"; }

  Status Embedding(const EmbeddingArgs& args) override;
  Status RmsNorm(const RmsNormArgs& args) override;
  Status Gather(const GatherArgs& args) override;
  Status SiluMul(const SiluMulArgs& args) override;
  Status Linear(const LinearArgs& args) override;
  Status RopeAppend(const RopeAppendArgs& args) override;
  Status Attention(const AttentionArgs& args) override;
  Status Sample(const SampleArgs& args) override;
};

}  // namespace comet
