#pragma once

#include "engine/model/model_config.h"
#include "engine/quantizer/memory_estimate.h"
#include "engine/quantizer/model_tuner.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// What quantising a model takes, by the kind of work that bounds it. Sums over layers and linears
// of N outputs and K inputs.
struct QuantizeWork {
  double float_ops = 0.0;         // Forward passes of calibration and held-out text, Gram matrices.
  double refining_ops = 0.0;      // Products of weight refinement and of tuning, as float_ops.
  double searched_weights = 0.0;  // N K: step search, clip search, output errors.
  double feedback_ops = 0.0;      // N K^2: rounding errors spread over the channels to come.
  double factor_ops = 0.0;        // K^3: inverse of the Gram matrix.
};

// A second's worth of each.
struct QuantizeRates {
  double float_ops = 0.0;
  double searched_weights = 0.0;
  double feedback_ops = 0.0;
  double factor_ops = 0.0;
};

// `tuning` and what SizeOfTuning() says of it.
QuantizeWork EstimateWork(const ModelConfig& config, const CalibrationSize& calibration,
                          const TuningOptions& tuning, const TuningSize& tuning_size);

// Times the stages themselves on small random matrices, about two seconds in all. Errors: those of
// the back end.
Result<QuantizeRates> MeasureRates(Backend& backend, int num_threads);

// The work at these rates. A model of times, not a promise: large matrices miss caches that small
// ones fit; reading the source is left out.
double EstimateSeconds(const QuantizeWork& work, const QuantizeRates& rates);

}  // namespace comet
