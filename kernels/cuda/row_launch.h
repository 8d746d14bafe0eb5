#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/base/math.h"
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

// Kernels that go from row to row with what does not change in registers.
inline constexpr int kHeldThreads = 512;
inline constexpr int kHeldChannels = kHeldThreads * kChunk;  // Of one chunk a thread.

// Two CTAs share an SM, so that one's arithmetic covers another's barriers; registers for two
// chunks a thread leave room for one.
constexpr int HeldCtasPerSm(int num_chunks) { return num_chunks == 1 ? 2 : 1; }

// Whether gathered rows are faster so than a CTA each. With one CTA an SM only while rows are few.
inline bool TakesHeld(int num_rows, int num_channels, int num_sms) {
  constexpr int kRowsPerSmMax = 16;
  if (num_channels <= kHeldChannels) return true;
  return num_channels <= 2 * kHeldChannels && num_rows <= kRowsPerSmMax * num_sms;
}

inline unsigned HeldGridSize(int num_rows, int num_channels, int num_sms) {
  const int ctas_per_sm = HeldCtasPerSm(CeilDiv(num_channels, kHeldChannels));
  return static_cast<unsigned>(std::min(num_rows, ctas_per_sm * num_sms));
}

}  // namespace comet::cuda
