#pragma once

namespace comet::cpu {

// Tells the processor that the thread is spinning.
void SpinPause();

}  // namespace comet::cpu
