#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "kernels/cuda/cuda_device.h"

namespace comet::cuda {

// The products that ours are compared with: y = x W^T, x [M, K], W [N, K], row-major.
enum class LtType {
  kFp16,  // fp16 operands and result, fp32 sums
  kInt8,  // int8 operands, int32 sums and result
  kFp8,   // e4m3 operands, fast accumulation, fp16 result
};

constexpr std::string_view NameOf(LtType type) {
  switch (type) {
    case LtType::kFp16: return "cublaslt_fp16";
    case LtType::kInt8: return "cublaslt_int8";
    case LtType::kFp8: return "cublaslt_fp8";
  }
  return "?";
}
constexpr int OperandBytes(LtType type) { return type == LtType::kFp16 ? 2 : 1; }
constexpr int ResultBytes(LtType type) { return type == LtType::kInt8 ? 4 : 2; }

// NVIDIA's matrix library, opened at run time: only benches need it, and it is large.
class CublasLt {
 public:
  static constexpr int64_t kWorkspaceBytes = 32 << 20;

  // Errors: kNotFound: the loader finds no libcublasLt of the version this was built for, or this
  // build lacks its header.
  static Result<std::unique_ptr<CublasLt>> Open();
  virtual ~CublasLt() = default;

  virtual std::string Version() const = 0;  // "13.0.2"

  // One product of one size with the algorithms that the library's heuristics suggest, best first.
  class Product {
   public:
    virtual ~Product() = default;
    virtual int num_algorithms() const = 0;  // 0: it has no kernel for this size.
    // Issues work on `stream` without waiting. `workspace` has kWorkspaceBytes.
    virtual Status Run(int algorithm_idx, const void* weights, const void* x, void* y,
                       void* workspace, const CudaStream& stream) const = 0;
  };
  virtual Result<std::unique_ptr<Product>> MakeProduct(LtType type, int num_tokens, int num_outputs,
                                                       int num_inputs,
                                                       int num_algorithms_max) const = 0;
};

}  // namespace comet::cuda
