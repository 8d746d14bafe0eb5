#include "kernels/ops/embedding.h"

#include "kernels/reference/elements.h"
#include "kernels/reference/packed_linear.h"
#include "kernels/reference/reference_ops.h"

namespace comet {

Status ReferenceOps::Embedding(const EmbeddingArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  const reference::ReferenceLinear& table = reference::Unpack(*args.table);
  for (int t = 0; t < args.ids.dim(0); ++t) {
    const int id = HostTokenId(args, t);
    COMET_CHECK(id >= 0 && id < table.outputs);
    for (int h = 0; h < table.inputs; ++h) {
      const size_t i = static_cast<size_t>(int64_t{id} * table.inputs + h);
      const float value = table.weight_kind == WeightKind::kFloat
                              ? table.values[i]
                              : table.scale[static_cast<size_t>(id)] * table.codes[i];
      reference::StoreFloat(args.out, t, h, value);
    }
  }
  return Status::Ok();
}

}  // namespace comet
