#include "kernels/base/spin_pause.h"

namespace comet {

void SpinPause() {}

}  // namespace comet
