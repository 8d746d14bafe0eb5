#include "kernels/ops.h"

namespace comet {

Result<std::unique_ptr<PackedLinear>> Ops::PackRandom(const RandomLinear& linear) {
  COMET_RETURN_IF_ERROR(Validate(linear));
  const HostRandomLinear made = MakeHostRandomLinear(linear);
  switch (linear.kind) {
    case WeightKind::kW4ax: return PackLinear(made.w4ax());
    case WeightKind::kInt8: return PackLinear(made.int8());
    case WeightKind::kFloat: break;
  }
  return PackLinear(made.floats());
}

}  // namespace comet
