#pragma once

#include <memory>
#include <string_view>
#include <utility>

#include "kernels/ops.h"

namespace comet {

// Passes every call on; what is derived from it overrides the ops it interferes with.
class ForwardingOps : public Ops {
 public:
  explicit ForwardingOps(std::unique_ptr<Ops> ops) : ops_(std::move(ops)) {}

  Result<std::unique_ptr<PackedLinear>> PackLinear(const W4axWeights& weights) override {
    return ops_->PackLinear(weights);
  }
  Result<std::unique_ptr<PackedLinear>> PackLinear(const Int8Weights& weights) override {
    return ops_->PackLinear(weights);
  }
  Result<std::unique_ptr<PackedLinear>> PackLinear(const FloatWeights& weights) override {
    return ops_->PackLinear(weights);
  }
  Result<std::unique_ptr<PackedLinear>> PackRandom(const RandomLinear& linear) override {
    return ops_->PackRandom(linear);
  }
  int64_t KvPageBytes(const KvFormat& format, int num_kv_heads, int head_dim) const override {
    return ops_->KvPageBytes(format, num_kv_heads, head_dim);
  }
  int64_t AttentionScratchBytes(int context_length_max, int head_dim) const override {
    return ops_->AttentionScratchBytes(context_length_max, head_dim);
  }
  bool HasInt4Products() const override { return ops_->HasInt4Products(); }
  bool UsesSampleScratch() const override { return ops_->UsesSampleScratch(); }
  std::string_view KernelDescription() const override { return ops_->KernelDescription(); }
  Status Embedding(const EmbeddingArgs& args) override { return ops_->Embedding(args); }
  Status RmsNorm(const RmsNormArgs& args) override { return ops_->RmsNorm(args); }
  Status Gather(const GatherArgs& args) override { return ops_->Gather(args); }
  Status SiluMul(const SiluMulArgs& args) override { return ops_->SiluMul(args); }
  Status Linear(const LinearArgs& args) override { return ops_->Linear(args); }
  Status RopeAppend(const RopeAppendArgs& args) override { return ops_->RopeAppend(args); }
  Status Attention(const AttentionArgs& args) override { return ops_->Attention(args); }
  Status Sample(const SampleArgs& args) override { return ops_->Sample(args); }

 protected:
  Ops& ops() { return *ops_; }

 private:
  std::unique_ptr<Ops> ops_;
};

}  // namespace comet
