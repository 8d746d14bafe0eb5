#pragma once

#include <cstdint>

#include "engine/model/model_config.h"
#include "kernels/base/status.h"

namespace comet {

// What quantising holds beside one layer.
struct CalibrationSize {
  int num_tokens = 0;            // Whose residual streams are kept, of both models.
  int num_tuning_tokens = 0;     // Further ones, of the float model alone.
  bool holds_layers = false;     // Quantised ones, for tuning, and
  bool holds_residuals = false;  // of each of their codes a byte.
  int window_tokens_max = 0;     // Computed at once.
  int num_sample_tokens = 0;
  int num_held_out_tokens = 0;
};

// Host memory at the peak of QuantizeModel(), mapped source aside (its pages can be dropped): the
// largest of embedding, widest layer and the held-out text's run, each with everything its stages
// hold at once, but not tuning (SizeOfTuning()). Stages count as if all their matrices lived
// together, so it errs upwards.
int64_t EstimatePeakBytes(const ModelConfig& config, const CalibrationSize& calibration);

// Errors: kResourceExhausted with what is needed and what there is.
Status CheckMemory(int64_t needed_bytes, int64_t available_bytes);

}  // namespace comet
