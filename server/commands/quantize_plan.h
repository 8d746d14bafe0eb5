#pragma once

#include "kernels/base/status.h"
#include "server/commands/quantize.h"

namespace comet {

// `comet quantize --dry-run`: prints the memory, time and disk that quantising a model takes on
// this host, from its shape alone.
Status RunQuantizePlan(const QuantizeOptions& options);

}  // namespace comet
