#pragma once

#include "kernels/base/status.h"

namespace comet::cuda {

// Why the runtime counts no device, from the CUDA versions that the driver supports and that the
// runtime was built for, as cudaDriverGetVersion() writes them: 13000 is 13.0, 0 no driver.
Status MissingDevice(int driver_version, int runtime_version);

}  // namespace comet::cuda
