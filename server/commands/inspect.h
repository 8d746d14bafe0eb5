#pragma once

#include <string>

#include "kernels/base/status.h"

namespace comet {

struct InspectOptions {
  std::string path;  // A checkpoint, a Hugging Face folder or a GGUF file.
  std::string svg;   // Optional: where to draw a checkpoint's error by layer.
  bool json = false;
};

// `comet inspect`: prints architecture and sizes; of a checkpoint also each layer's INT4 share,
// bits, scales, clips, KV format and accuracy; of a source its tensor types, and why it cannot be
// used, if so: then that is also the status.
Status RunInspect(const InspectOptions& options);

}  // namespace comet
