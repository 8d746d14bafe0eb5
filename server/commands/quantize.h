#pragma once

#include <string>

#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct QuantizeOptions {
  std::string source;          // Unquantised model file.
  std::string output;          // Checkpoint folder to write.
  std::string calibration;     // Text file; empty: the built-in sample.
  double int4_share = 0.84;    // Wanted share of INT4 channels in each linear layer.
  double key_error_max = 0.3;  // Of the attention output; beyond it a layer's keys get more bits.
  bool dry_run = false;        // See RunQuantizePlan().
  bool json = false;           // Of a dry run.
  bool force = false;          // Replace an output that exists.
  BackendOptions backend;      // Its threads are also those of the weight search.
};

// `comet quantize`: writes a comet checkpoint and prints what it holds and lost, with a progress
// bar on a terminal and plain lines elsewhere.
Status RunQuantize(const QuantizeOptions& options);

}  // namespace comet
