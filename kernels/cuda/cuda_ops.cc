#include "kernels/cuda/cuda_ops.h"

#include "kernels/base/str_cat.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/int8_linear.h"
#include "kernels/cuda/kv_support.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rope_append.h"
#include "kernels/cuda/row_ops.h"
#include "kernels/cuda/row_weights.h"
#include "kernels/cuda/sample.h"

namespace comet {
namespace {

cudaStream_t StreamOf(const CudaDevice& device) {
  return static_cast<cudaStream_t>(device.stream().handle());
}

}  // namespace

Result<std::unique_ptr<CudaOps>> CudaOps::Create(CudaDevice& device) {
  COMET_RETURN_IF_ERROR(device.MakeCurrent());
  COMET_ASSIGN_OR_RETURN(cuda::StagedUpload upload, cuda::StagedUpload::Create(device));
  COMET_ASSIGN_OR_RETURN(cuda::Launcher launcher, cuda::Launcher::Create(StreamOf(device)));
  std::unique_ptr<CudaOps> ops(new CudaOps(device, std::move(upload), std::move(launcher)));
  COMET_ASSIGN_OR_RETURN(ops->attention_work_, device.Allocate(cuda::AttentionWorkBytes()));
  COMET_RETURN_IF_ERROR(device.FillZero(ops->attention_work_.data(), cuda::AttentionWorkBytes()));
  Result<sm90::W4axGemm> gemm = sm90::W4axGemm::Create();
  if (gemm.ok()) {
    ops->sm90_gemm_ = std::move(gemm).value();
    COMET_ASSIGN_OR_RETURN(ops->int8_gemm_, sm90::Int8Gemm::Create());
    return ops;
  }
  if (gemm.status().code() != StatusCode::kUnimplemented) return gemm.status();
  COMET_ASSIGN_OR_RETURN(ops->sm80_gemm_, sm80::W4axGemm::Create(device));
  return ops;
}

CudaOps::CudaOps(CudaDevice& device, cuda::StagedUpload upload, cuda::Launcher launcher)
    : device_(device),
      upload_(std::move(upload)),
      launcher_(std::make_unique<cuda::Launcher>(std::move(launcher))) {}

CudaOps::~CudaOps() = default;

bool CudaOps::HasInt4Products() const {
  return sm80_gemm_.has_value() && sm80_gemm_->has_int4_products();
}

std::string_view CudaOps::KernelDescription() const {
  if (sm90_gemm_.has_value()) {
    return "w4ax_gemm and attention of chunks: sm_90 wgmma, int8_gemm: mma.sync and wgmma, "
           "decode attention: mma.sync, other ops: cuda; no kernel: float_gemm";
  }
  if (HasInt4Products()) {
    return "w4ax_gemm: sm_80 mma.sync INT4 and INT8, int8_gemm and attention: mma.sync, other ops: "
           "cuda; no kernel: float_gemm";
  }
  return "w4ax_gemm: sm_80's mma.sync INT8 from PTX, not tuned for this device, int8_gemm and "
         "attention: mma.sync, other ops: cuda; no kernel: float_gemm";
}

Status CudaOps::NoKernel(std::string_view op, const TensorShape& shape) const {
  return Unimplemented(
      StrCat(op, ": ", shape.ToString(), " has no kernel on ", device_.description()));
}

Result<std::unique_ptr<PackedLinear>> CudaOps::PackLinear(const W4axWeights& weights) {
  COMET_RETURN_IF_ERROR(Validate(weights));
  std::unique_ptr<PackedLinear> packed;
  if (sm90_gemm_.has_value()) {
    COMET_ASSIGN_OR_RETURN(packed, sm90::W4axLinear::Pack(upload_, weights));
  } else {
    COMET_ASSIGN_OR_RETURN(packed, sm80::W4axLinear::Pack(upload_, weights));
    sm80_gemm_->PlanAhead(*packed);
  }
  return packed;
}

Result<std::unique_ptr<PackedLinear>> CudaOps::PackLinear(const Int8Weights& weights) {
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<PackedLinear> packed,
                         cuda::RowWeights::Create(upload_, weights));
  return packed;
}

Result<std::unique_ptr<PackedLinear>> CudaOps::PackLinear(const FloatWeights& weights) {
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<PackedLinear> packed,
                         cuda::RowWeights::Create(upload_, weights));
  return packed;
}

Result<std::unique_ptr<PackedLinear>> CudaOps::PackRandom(const RandomLinear& linear) {
  COMET_RETURN_IF_ERROR(Validate(linear));
  COMET_RETURN_IF_ERROR(device_.MakeCurrent());
  std::unique_ptr<PackedLinear> packed;
  if (linear.kind != WeightKind::kW4ax) {
    COMET_ASSIGN_OR_RETURN(packed, cuda::RowWeights::CreateRandom(upload_, linear));
    return packed;
  }
  if (sm90_gemm_.has_value()) {
    COMET_ASSIGN_OR_RETURN(packed, sm90::W4axLinear::PackRandom(upload_, linear));
  } else {
    COMET_ASSIGN_OR_RETURN(packed, sm80::W4axLinear::PackRandom(upload_, linear));
    sm80_gemm_->PlanAhead(*packed);
  }
  return packed;
}

int64_t CudaOps::KvPageBytes(const KvFormat& format, int num_kv_heads, int head_dim) const {
  return cuda::KvPageBytes(format, num_kv_heads, head_dim);
}

int64_t CudaOps::AttentionScratchBytes(int context_length_max, int head_dim) const {
  return cuda::AttentionScratchBytes(device_.num_sms(), context_length_max, head_dim);
}

Status CudaOps::Embedding(const EmbeddingArgs& args) {
  COMET_RETURN_IF_ERROR(device_.MakeCurrent());
  return cuda::Embedding(args, *launcher_);
}

Status CudaOps::RmsNorm(const RmsNormArgs& args) {
  COMET_RETURN_IF_ERROR(device_.MakeCurrent());
  return cuda::RmsNorm(args, *launcher_);
}

Status CudaOps::Gather(const GatherArgs& args) {
  COMET_RETURN_IF_ERROR(device_.MakeCurrent());
  return cuda::Gather(args, *launcher_);
}

Status CudaOps::SiluMul(const SiluMulArgs& args) {
  COMET_RETURN_IF_ERROR(device_.MakeCurrent());
  return cuda::SiluMul(args, *launcher_);
}

// Every launcher validates its arguments.
Status CudaOps::Linear(const LinearArgs& args) {
  if (args.weights == nullptr) return Validate(args);
  COMET_RETURN_IF_ERROR(device_.MakeCurrent());
  switch (args.weights->kind()) {
    case WeightKind::kInt8:
      if (int8_gemm_.has_value() && args.x.num_tokens() >= sm90::Int8Gemm::kTokensMin) {
        return int8_gemm_->Run(args, *launcher_);
      }
      return cuda::Int8Linear(args, *launcher_);
    case WeightKind::kW4ax:
      return sm90_gemm_.has_value() ? sm90_gemm_->Run(args, device_.stream().handle())
                                    : sm80_gemm_->Run(args, device_.stream().handle());
    case WeightKind::kFloat: break;
  }
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.x.num_tokens() == 0) return Status::Ok();
  return NoKernel("linear", args.y.shape());
}

Status CudaOps::RopeAppend(const RopeAppendArgs& args) {
  COMET_RETURN_IF_ERROR(device_.MakeCurrent());
  return cuda::RopeAppend(args, *launcher_);
}

Status CudaOps::Attention(const AttentionArgs& args) {
  COMET_RETURN_IF_ERROR(device_.MakeCurrent());
  return cuda::Attention(args, attention_work_.data(), *launcher_);
}

Status CudaOps::Sample(const SampleArgs& args) {
  COMET_RETURN_IF_ERROR(device_.MakeCurrent());
  return cuda::Sample(args, *launcher_);
}

}  // namespace comet
