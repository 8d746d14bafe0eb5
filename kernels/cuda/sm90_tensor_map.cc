#include "kernels/cuda/sm90_tensor_map.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/base/str_cat.h"
#include "kernels/cuda/cuda_status.h"

namespace comet::sm90 {

Result<TensorMapEncoder> TensorMapEncoder::Create() {
  void* encode = nullptr;
  cudaDriverEntryPointQueryResult found{};
  COMET_RETURN_IF_ERROR(
      cuda::StatusOf(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000,
                                                      cudaEnableDefault, &found),
                     "cudaGetDriverEntryPointByVersion"));
  if (encode == nullptr || found != cudaDriverEntryPointSuccess) {
    return Internal("linear: the driver has no cuTensorMapEncodeTiled, expected CUDA 12 or later");
  }
  return TensorMapEncoder(encode);
}

Status TensorMapEncoder::Encode(const void* data, int num_rows, int row_bytes, int64_t row_stride,
                                int box_rows, CUtensorMap_st& map) const {
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(encode_);
  const cuuint64_t dims[2] = {static_cast<cuuint64_t>(row_bytes),
                              static_cast<cuuint64_t>(num_rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(row_stride)};
  const cuuint32_t box[2] = {kBoxRowBytes, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t element_strides[2] = {1, 1};
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void*>(data), dims, strides, box,
             element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) return Status::Ok();
  return Internal(StrCat("linear: cuTensorMapEncodeTiled of ", num_rows, " rows of ", row_bytes,
                         " bytes is ", static_cast<int>(result), ", expected 0"));
}

}  // namespace comet::sm90
