#pragma once

#include <string_view>

#include "kernels/base/status.h"
#include "kernels/cpu/kernel_table.h"

namespace comet::cpu {

// The instruction sets that have kernels of their own. kScalar runs anywhere.
enum class Isa { kScalar, kAvx2, kAvx512Vnni };

std::string_view ToString(Isa isa);

// Whether this processor and its operating system can run the kernels of `isa`.
bool IsSupported(Isa isa);

// "auto": the widest supported one. Errors: kInvalidArgument (unknown), kUnimplemented (this
// machine cannot run it: a forced instruction set is never replaced by another).
Result<Isa> ChooseIsa(std::string_view name);

const KernelTable& KernelsOf(Isa isa);

}  // namespace comet::cpu
