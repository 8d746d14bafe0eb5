#pragma once

#include <string>

#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct QuantizeOptions {
  std::string source;          // Unquantised model file.
  std::string output;          // Checkpoint folder to write.
  std::string calibration;     // Text file; empty: the built-in sample.
  double int4_share = 0.84;    // Wanted share of multiply-adds on INT4 channels.
  int calibration_tokens = 0;  // Most that statistics are taken of; 0: the default.
  double damping = 0.1;        // Of the gram matrices, in units of their mean diagonal.
  bool no_error_feedback = false;
  int refinement_rounds = 3;
  bool no_key_smoothing = false;
  bool no_rotation = false;
  bool no_down_hadamard = false;
  bool float_calibration = false;
  int tuning_steps = 31;
  double tuning_rate = 4.5e-3;
  double tuning_code_rate = 1.35e-2;
  bool has_rescale = false;      // Quantise the same function with other weights: see
  int rescale_seed = 0;          // engine/loader/rescaled_source.h
  double key_error_max = 0.3;    // Of attention; beyond it a layer's keys get more bits,
  double value_error_max = 0.3;  // and beyond this its values.
  bool dry_run = false;          // See RunQuantizePlan().
  bool json = false;             // Of a dry run.
  bool force = false;            // Replace an output that exists.
  BackendOptions backend;        // Its threads are also those of the weight search.
};

// `comet quantize`: writes a comet checkpoint and prints what it holds and lost, with a progress
// bar on a terminal and plain lines elsewhere.
Status RunQuantize(const QuantizeOptions& options);

}  // namespace comet
