#pragma once

#include "kernels/make_backend.h"

namespace comet {

// Device 0 and its ops. Errors: kUnimplemented (this build has no CUDA), kInternal (no device
// answers).
Result<Backend> MakeCudaBackend();

}  // namespace comet
