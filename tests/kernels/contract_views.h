#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <initializer_list>
#include <string>

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"

namespace comet {

// Whether a contract's check answered kInvalidArgument and names `part`.
inline ::testing::AssertionResult IsInvalid(const Status& status, const std::string& part) {
  if (status.code() != StatusCode::kInvalidArgument) {
    return ::testing::AssertionFailure() << "the status is " << status;
  }
  if (status.message().find(part) == std::string::npos) {
    return ::testing::AssertionFailure() << "'" << status.message() << "' lacks '" << part << "'";
  }
  return ::testing::AssertionSuccess();
}

// Views of one memory that nothing reads.
inline TensorView ViewOf(DType dtype, std::initializer_list<int> dims) {
  alignas(64) static std::byte memory[1 << 16];
  return {memory, dtype, TensorShape(dims)};
}

inline TensorView F32(std::initializer_list<int> dims) { return ViewOf(DType::kF32, dims); }
inline TensorView I32(std::initializer_list<int> dims) { return ViewOf(DType::kI32, dims); }

inline TensorView WithInnerStride(TensorView view, int64_t stride) {
  TensorShape shape = view.shape();
  shape.set_stride(shape.rank() - 1, stride);
  return {view.data(), view.dtype(), shape};
}

}  // namespace comet
