#include "kernels/reference/reference_ops.h"

#include <utility>

#include "kernels/reference/kv_page.h"
#include "kernels/reference/packed_linear.h"

namespace comet {
namespace {

template <typename Weights>
Result<std::unique_ptr<PackedLinear>> PackChecked(const Weights& weights) {
  COMET_RETURN_IF_ERROR(Validate(weights));
  return std::unique_ptr<PackedLinear>(
      std::make_unique<reference::ReferenceLinear>(reference::Pack(weights)));
}

}  // namespace

Result<std::unique_ptr<PackedLinear>> ReferenceOps::PackLinear(const W4axWeights& weights) {
  return PackChecked(weights);
}

Result<std::unique_ptr<PackedLinear>> ReferenceOps::PackLinear(const Int8Weights& weights) {
  return PackChecked(weights);
}

Result<std::unique_ptr<PackedLinear>> ReferenceOps::PackLinear(const FloatWeights& weights) {
  return PackChecked(weights);
}

int64_t ReferenceOps::KvPageBytes(const KvFormat& format, int num_kv_heads, int head_dim) const {
  return reference::PageBytes(format, num_kv_heads, head_dim);
}

}  // namespace comet
