#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>

#include "engine/loader/float_source.h"
#include "engine/quantizer/accuracy_report.h"
#include "engine/quantizer/calibration.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/model_tuner.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet {

struct QuantizeModelOptions {
  std::string output;            // Folder to write.
  bool may_replace = false;      // Replace an output folder that exists.
  std::string calibration_text;  // Empty: DefaultCalibrationText().
  CalibrationOptions calibration;
  double int4_share = 0.84;     // Wanted of the multiply-adds: see PrecisionBudget.
  int sample_tokens_max = 128;  // Of the output errors and the clip search.
  // Of every layer, but for those whose keys or values need 8 or 16 bits to stay within these
  // errors: see ChooseKeyBits() and ChooseValueBits(). Keys get no fewer bits than values: of the
  // cache's codes, CUDA has attention kernels for K/V of 4/4, 8/4 and 8/8.
  KvFormat kv;
  double key_error_max = 0.3;
  double value_error_max = 0.3;
  float damping = 0.1f;           // Of the gram matrices, in units of their mean diagonal.
  bool rotates = true;            // See ModelRotation.
  int rotation_tokens = 4096;     // Whose activations choose it, in whole windows.
  bool down_hadamard = true;      // See LayerPrecision.
  bool follows_quantized = true;  // Calibrates each linear on what the quantised ones before give.
  float gap_share = 0.5f;         // See WeightTargetOptions.
  WeightSearch search;            // Its num_threads is the one below, as tuning's.
  bool smooths_keys = true;       // Where it lowers attention's error.
  TuningOptions tuning;
  int64_t tuning_bytes_max = int64_t{4} << 30;  // What needs more: see SizeOfTuning().
  int num_threads = 1;                          // Of the weight search; the back end has its own.
  // Of the host: a model that needs more is refused before anything is written.
  int64_t memory_bytes_max = std::numeric_limits<int64_t>::max();

  Status Validate() const;
};

// One finished step of the work.
struct QuantizeProgress {
  int steps_done = 0;
  // One for the rotation, layers, one for embedding and LM head, those of tuning, three for
  // held-out text.
  int num_steps = 0;
  std::string_view detail;  // Valid during the call.
};

// Writes the comet checkpoint of a float model, one layer in memory at a time: calibrates each
// linear on what the quantised ones before it give, orders channels, quantises weights, chooses
// clips, bits of keys and values and the keys' Hadamard, measures. The same source, options and
// back end give the same bytes, whatever the thread counts. Errors: kInvalidArgument (options,
// model), kResourceExhausted (memory, disk), kFailedPrecondition (the output exists; tuning's),
// kDataLoss (the source; a weight that is no finite number), those of back end and file system.
// Nothing is left behind on failure.
Result<AccuracyReport> QuantizeModel(FloatSource& source, Backend& backend,
                                     const QuantizeModelOptions& options,
                                     const std::function<void(const QuantizeProgress&)>& progress);

}  // namespace comet
