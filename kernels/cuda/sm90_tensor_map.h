#pragma once

#include <cstdint>

#include "kernels/base/status.h"

struct CUtensorMap_st;

namespace comet::sm90 {

// Bytes of a box's row: as wide as the swizzle's pattern.
inline constexpr int kBoxRowBytes = 128;

// Makes the copy engine's description of a matrix of bytes, of which it fetches boxes of rows.
// Immutable.
class TensorMapEncoder {
 public:
  // Errors: kInternal: the driver has no such function.
  static Result<TensorMapEncoder> Create();

  // Boxes of box_rows x kBoxRowBytes, swizzled as wgmma reads them; zeros outside. `data` and
  // `row_stride` are multiples of 16 bytes. Errors: kInternal: the driver's answer.
  Status Encode(const void* data, int num_rows, int row_bytes, int64_t row_stride, int box_rows,
                CUtensorMap_st& map) const;

 private:
  explicit TensorMapEncoder(void* encode) : encode_(encode) {}

  void* encode_;  // cuTensorMapEncodeTiled of the driver.
};

}  // namespace comet::sm90
