#include "kernels/cpu/isa.h"
#include "kernels/cpu/kernels.h"

// Processors other than x86-64: the scalar kernels only.
namespace comet::cpu {

bool IsSupported(Isa isa) { return isa == Isa::kScalar; }

const KernelTable& KernelsOf(Isa) { return ScalarKernels(); }

}  // namespace comet::cpu
