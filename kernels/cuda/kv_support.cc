#include "kernels/cuda/kv_support.h"

#include "kernels/base/dtype.h"
#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"

namespace comet::cuda {
namespace {

int64_t SideBytes(int bits, int head_dim) {
  const int64_t code_bytes = int64_t{kPageTokens} * head_dim * bits / 8;
  const bool has_scales = bits <= 8;
  return code_bytes + (has_scales ? kPageTokens * 2 * BytesOf(DType::kF16) : 0);
}

}  // namespace

Status CheckKvKernels(const char* op, const KvCacheView& cache) {
  if (cache.head_dim != 64 && cache.head_dim != 128) {
    return Unimplemented(
        StrCat(op, ": head_dim is ", cache.head_dim, ", expected 64 or 128 on a cuda device"));
  }
  const auto is_code = [](int bits) { return bits == 4 || bits == 8; };
  const KvFormat& format = cache.format;
  if (!is_code(format.k_bits) || !is_code(format.v_bits) || format.k_bits < format.v_bits) {
    return Unimplemented(StrCat(op, ": cache bits are ", format.k_bits, "/", format.v_bits,
                                ", expected 4/4, 8/4 or 8/8 on a cuda device"));
  }
  return Status::Ok();
}

int64_t KvPageBytes(const KvFormat& format, int num_kv_heads, int head_dim) {
  const int64_t head_bytes =
      SideBytes(format.k_bits, head_dim) + SideBytes(format.v_bits, head_dim);
  return num_kv_heads * AlignUp<int64_t>(head_bytes, kPageAlignment);
}

}  // namespace comet::cuda
