#include <immintrin.h>

#include "kernels/base/spin_pause.h"

namespace comet {

void SpinPause() { _mm_pause(); }

}  // namespace comet
