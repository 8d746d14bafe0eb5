#pragma once

#include "kernels/cpu/kernel_table.h"

namespace comet::cpu {

// One file an instruction set, each compiled with its own flags. Call only what IsSupported()
// allows.
const KernelTable& ScalarKernels();
const KernelTable& Avx2Kernels();
const KernelTable& Avx512VnniKernels();

}  // namespace comet::cpu
