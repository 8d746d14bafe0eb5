#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/loader/accuracy_file.h"
#include "engine/quantizer/key_hadamard.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/model_tuner.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet {

struct LayerAccuracy {
  LinearAccuracy qkv;
  LinearAccuracy o;
  LinearAccuracy gate_up;
  LinearAccuracy down;
  KeyHadamardChoice keys;
  double value_error = 0.0;  // See ValueBitsChoice.
  KvFormat kv;
};

// What quantising lost, layer by layer; the checkpoint's accuracy.json.
struct AccuracyReport {
  int num_calibration_tokens = 0;
  int num_sample_tokens = 0;  // Of the output errors.
  double lm_head_error = 0.0;
  std::vector<LayerAccuracy> layers;
  TuningResult tuning;  // After which weight and output errors were not measured again.
  HeldOutPerplexity held_out;

  // Errors: means over the layers, every linear counting the same; share and bits: every weight.
  LinearAccuracy Mean() const;
  std::string ToJson() const;
};

}  // namespace comet
