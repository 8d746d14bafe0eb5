#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/sm80_gemm.h"
#include "kernels/cuda/sm90_gemm.h"
#include "kernels/cuda/sm90_int8_gemm.h"
#include "kernels/cuda/staged_upload.h"
#include "kernels/ops.h"

namespace comet::cuda {
class Launcher;
}

namespace comet {

// The ops of one GPU. What has no kernel (products of float weights, the cases that each launcher
// names) is kUnimplemented, naming op, shape and device. Confined to the step thread.
class CudaOps final : public Ops {
 public:
  // Errors: kInternal: the driver lacks what a kernel needs.
  static Result<std::unique_ptr<CudaOps>> Create(CudaDevice& device);
  ~CudaOps() override;

  Result<std::unique_ptr<PackedLinear>> PackLinear(const W4axWeights& weights) override;
  Result<std::unique_ptr<PackedLinear>> PackLinear(const Int8Weights& weights) override;
  Result<std::unique_ptr<PackedLinear>> PackLinear(const FloatWeights& weights) override;
  Result<std::unique_ptr<PackedLinear>> PackRandom(const RandomLinear& linear) override;

  // Per KV head: K codes | V codes | K (s, m) | V (s, m), contiguous, so that one bulk copy moves
  // it.
  int64_t KvPageBytes(const KvFormat& format, int num_kv_heads, int head_dim) const override;
  int64_t AttentionScratchBytes(int context_length_max, int head_dim) const override;
  bool HasInt4Products() const override;
  bool UsesSampleScratch() const override { return true; }
  std::string_view KernelDescription() const override;

  Status Embedding(const EmbeddingArgs& args) override;
  Status RmsNorm(const RmsNormArgs& args) override;
  Status Gather(const GatherArgs& args) override;
  Status SiluMul(const SiluMulArgs& args) override;
  Status Linear(const LinearArgs& args) override;
  Status RopeAppend(const RopeAppendArgs& args) override;
  Status Attention(const AttentionArgs& args) override;
  Status Sample(const SampleArgs& args) override;

 private:
  CudaOps(CudaDevice& device, cuda::StagedUpload upload, cuda::Launcher launcher);

  Status NoKernel(std::string_view op, const TensorShape& shape) const;

  CudaDevice& device_;
  cuda::StagedUpload upload_;
  std::unique_ptr<cuda::Launcher> launcher_;  // Held so that its header, CUDA's, stays inside.
  DeviceBuffer attention_work_;
  // Hopper has its own kernels; all other cards from sm_80 on share one for W4Ax.
  std::optional<sm90::W4axGemm> sm90_gemm_;
  std::optional<sm90::Int8Gemm> int8_gemm_;
  std::optional<sm80::W4axGemm> sm80_gemm_;
};

}  // namespace comet
