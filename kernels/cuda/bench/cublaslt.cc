#include "kernels/cuda/bench/cublaslt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <array>
#include <vector>

#include "kernels/base/str_cat.h"

namespace comet::cuda {
namespace {

Status StatusOfLt(cublasStatus_t status, std::string_view call) {
  if (status == CUBLAS_STATUS_SUCCESS) return Status::Ok();
  return Internal(StrCat("cublaslt: ", call, " is ", static_cast<int>(status), ", expected 0"));
}

// The library's functions that are used here.
struct Functions {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) get_version = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic = nullptr;
  decltype(&cublasLtMatmulDescCreate) create_desc = nullptr;
  decltype(&cublasLtMatmulDescDestroy) destroy_desc = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set_desc = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) create_layout = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;

  bool Load(void* library) {
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    return find(create, "cublasLtCreate") && find(destroy, "cublasLtDestroy") &&
           find(get_version, "cublasLtGetVersion") && find(matmul, "cublasLtMatmul") &&
           find(get_heuristic, "cublasLtMatmulAlgoGetHeuristic") &&
           find(create_desc, "cublasLtMatmulDescCreate") &&
           find(destroy_desc, "cublasLtMatmulDescDestroy") &&
           find(set_desc, "cublasLtMatmulDescSetAttribute") &&
           find(create_layout, "cublasLtMatrixLayoutCreate") &&
           find(destroy_layout, "cublasLtMatrixLayoutDestroy") &&
           find(create_preference, "cublasLtMatmulPreferenceCreate") &&
           find(destroy_preference, "cublasLtMatmulPreferenceDestroy") &&
           find(set_preference, "cublasLtMatmulPreferenceSetAttribute");
  }
};

cudaDataType OperandType(LtType type) {
  switch (type) {
    case LtType::kFp16: return CUDA_R_16F;
    case LtType::kInt8: return CUDA_R_8I;
    case LtType::kFp8: return CUDA_R_8F_E4M3;
  }
  return CUDA_R_16F;
}

// Column by column, as the library counts: y^T [N, M] = W [N, K] x^T [K, M].
class LtProduct final : public CublasLt::Product {
 public:
  LtProduct(const Functions& functions, cublasLtHandle_t handle, LtType type)
      : functions_(functions), handle_(handle), type_(type) {}
  LtProduct(const LtProduct&) = delete;
  LtProduct& operator=(const LtProduct&) = delete;
  ~LtProduct() override {
    for (const cublasLtMatrixLayout_t layout : {weights_, x_, y_}) {
      if (layout != nullptr) functions_.destroy_layout(layout);
    }
    if (desc_ != nullptr) functions_.destroy_desc(desc_);
  }

  Status Prepare(int num_tokens, int num_outputs, int num_inputs, int num_algorithms_max) {
    const bool is_int8 = type_ == LtType::kInt8;
    const cudaDataType operand_type = OperandType(type_);
    COMET_RETURN_IF_ERROR(
        StatusOfLt(functions_.create_desc(&desc_, is_int8 ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F,
                                          is_int8 ? CUDA_R_32I : CUDA_R_32F),
                   "cublasLtMatmulDescCreate"));
    const cublasOperation_t transposed = CUBLAS_OP_T;
    COMET_RETURN_IF_ERROR(SetDesc(CUBLASLT_MATMUL_DESC_TRANSA, transposed));
    if (type_ == LtType::kFp8) {
      COMET_RETURN_IF_ERROR(SetDesc(CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{1}));
    }
    COMET_RETURN_IF_ERROR(MakeLayout(weights_, operand_type, num_inputs, num_outputs));
    COMET_RETURN_IF_ERROR(MakeLayout(x_, operand_type, num_inputs, num_tokens));
    COMET_RETURN_IF_ERROR(
        MakeLayout(y_, is_int8 ? CUDA_R_32I : CUDA_R_16F, num_outputs, num_tokens));
    return FindAlgorithms(num_algorithms_max);
  }

  int num_algorithms() const override { return static_cast<int>(algorithms_.size()); }

  Status Run(int algorithm_idx, const void* weights, const void* x, void* y, void* workspace,
             const CudaStream& stream) const override {
    const float one = 1.0f;
    const float zero = 0.0f;
    const int32_t int_one = 1;
    const int32_t int_zero = 0;
    const bool is_int8 = type_ == LtType::kInt8;
    const void* alpha = is_int8 ? static_cast<const void*>(&int_one) : &one;
    const void* beta = is_int8 ? static_cast<const void*>(&int_zero) : &zero;
    return StatusOfLt(
        functions_.matmul(handle_, desc_, alpha, weights, weights_, x, x_, beta, y, y_, y, y_,
                          &algorithms_[static_cast<size_t>(algorithm_idx)].algo, workspace,
                          CublasLt::kWorkspaceBytes, static_cast<cudaStream_t>(stream.handle())),
        "cublasLtMatmul");
  }

 private:
  template <typename T>
  Status SetDesc(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    return StatusOfLt(functions_.set_desc(desc_, attribute, &value, sizeof(value)),
                      "cublasLtMatmulDescSetAttribute");
  }

  Status MakeLayout(cublasLtMatrixLayout_t& layout, cudaDataType type, int rows, int columns) {
    return StatusOfLt(functions_.create_layout(&layout, type, static_cast<uint64_t>(rows),
                                               static_cast<uint64_t>(columns), rows),
                      "cublasLtMatrixLayoutCreate");
  }

  // A size the library has no kernel for is an empty list, not an error.
  Status FindAlgorithms(int num_algorithms_max) {
    cublasLtMatmulPreference_t preference = nullptr;
    COMET_RETURN_IF_ERROR(
        StatusOfLt(functions_.create_preference(&preference), "cublasLtMatmulPreferenceCreate"));
    const uint64_t workspace_bytes = CublasLt::kWorkspaceBytes;
    functions_.set_preference(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                              &workspace_bytes, sizeof(workspace_bytes));
    std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<size_t>(num_algorithms_max));
    int num_found = 0;
    const cublasStatus_t status =
        functions_.get_heuristic(handle_, desc_, weights_, x_, y_, y_, preference,
                                 num_algorithms_max, found.data(), &num_found);
    functions_.destroy_preference(preference);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
      return Status::Ok();
    }
    COMET_RETURN_IF_ERROR(StatusOfLt(status, "cublasLtMatmulAlgoGetHeuristic"));
    for (int i = 0; i < num_found; ++i) {
      const auto& result = found[static_cast<size_t>(i)];
      if (result.state == CUBLAS_STATUS_SUCCESS) algorithms_.push_back(result);
    }
    return Status::Ok();
  }

  const Functions& functions_;
  const cublasLtHandle_t handle_;
  const LtType type_;
  cublasLtMatmulDesc_t desc_ = nullptr;
  cublasLtMatrixLayout_t weights_ = nullptr;
  cublasLtMatrixLayout_t x_ = nullptr;
  cublasLtMatrixLayout_t y_ = nullptr;
  std::vector<cublasLtMatmulHeuristicResult_t> algorithms_;
};

class OpenedCublasLt final : public CublasLt {
 public:
  OpenedCublasLt() = default;
  OpenedCublasLt(const OpenedCublasLt&) = delete;
  OpenedCublasLt& operator=(const OpenedCublasLt&) = delete;
  // The library stays loaded: its own threads and handlers outlive any handle.
  ~OpenedCublasLt() override {
    if (handle_ != nullptr) functions_.destroy(handle_);
  }

  Status Load() {
    const std::string name = StrCat("libcublasLt.so.", CUBLAS_VER_MAJOR);
    const std::array<std::string, 2> places = {name, StrCat("/usr/local/cuda/lib64/", name)};
    void* library = nullptr;
    for (const std::string& place : places) {
      if (library == nullptr) library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    }
    if (library == nullptr) return NotFound(StrCat("cublaslt: ", dlerror()));
    if (!functions_.Load(library)) return NotFound(StrCat("cublaslt: ", name, " lacks a function"));
    return StatusOfLt(functions_.create(&handle_), "cublasLtCreate");
  }

  std::string Version() const override {
    const size_t version = functions_.get_version();  // 130002: 13.0.2
    return StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
  }

  Result<std::unique_ptr<Product>> MakeProduct(LtType type, int num_tokens, int num_outputs,
                                               int num_inputs,
                                               int num_algorithms_max) const override {
    auto product = std::make_unique<LtProduct>(functions_, handle_, type);
    COMET_RETURN_IF_ERROR(
        product->Prepare(num_tokens, num_outputs, num_inputs, num_algorithms_max));
    return std::unique_ptr<Product>(std::move(product));
  }

 private:
  Functions functions_;
  cublasLtHandle_t handle_ = nullptr;
};

}  // namespace

Result<std::unique_ptr<CublasLt>> CublasLt::Open() {
  auto opened = std::make_unique<OpenedCublasLt>();
  COMET_RETURN_IF_ERROR(opened->Load());
  return std::unique_ptr<CublasLt>(std::move(opened));
}

}  // namespace comet::cuda
