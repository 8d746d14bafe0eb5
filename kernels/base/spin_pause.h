#pragma once

namespace comet {

// Tells the processor that the thread is spinning.
void SpinPause();

}  // namespace comet
