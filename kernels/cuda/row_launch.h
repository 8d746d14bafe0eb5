#pragma once

#include <cstdint>

#include "kernels/base/math.h"
#include "kernels/cuda/launch.h"
#include "kernels/ops/linear_input.h"

namespace comet::cuda {

inline constexpr int kChunk = 8;  // Channels a thread handles at a time: 8 bytes of codes.

// A LinearInput as kernels take it.
struct RowOutputParams {
  void* values = nullptr;  // kFloat: f16 or f32; otherwise the next four.
  int8_t* codes = nullptr;
  float* scale = nullptr;
  int32_t* exponent = nullptr;
  int32_t* code_sum = nullptr;  // INT8 region, INT4 region of each row.
  int64_t row_stride = 0;       // Of values or codes.
  int num_channels = 0;
  int num_int4 = 0;
  int exponent_max = 0;
  float clip = 1.0f;
  float int4_limit = 127.0f;
  bool is_f16 = false;
  bool has_vector_stores = false;
  bool packs_int4 = false;
};

inline bool IsAligned(const void* data, int64_t num_bytes) {
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(num_bytes) == 0;
}

// Whether every row starts at a multiple of `num_bytes`.
inline bool HasAlignedRows(const ConstTensorView& tensor, int64_t num_bytes) {
  return IsAligned(tensor.data(), num_bytes) &&
         (tensor.dim(0) <= 1 || tensor.stride(0) * BytesOf(tensor.dtype()) % num_bytes == 0);
}

RowOutputParams MakeRowOutputParams(const LinearInput& out);

// Shared memory of a row: its floats in whole chunks, twice where they are gathered.
inline int64_t RowSmemBytes(int num_channels, bool has_gather) {
  return AlignUp<int64_t>(num_channels, kChunk) * 4 * (has_gather ? 2 : 1);
}

// Threads of a CTA. With fewer rows than fill the card, a row's latency counts and more threads
// share it; with many, smaller CTAs overlap one row's loads with another's arithmetic.
int RowThreads(int num_rows, int num_sms);

// Dynamic shared memory for CTAs that need `smem_bytes`, so much that no SM holds more of them than
// its share of the grid: released grids meet SMs that are free at different times, and the first
// ones would take CTAs that others have to do without.
int64_t SpreadSmemBytes(int num_ctas, int64_t smem_bytes, const DeviceLimits& limits);

// Threads of a row for the kernel that walks over rows of vectors, 32 channels each; 0 where a row
// is too wide for it.
int WalkRowThreads(int num_channels);

}  // namespace comet::cuda
