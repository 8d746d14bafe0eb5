#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/loader/checkpoint_writer.h"
#include "engine/model/model_config.h"
#include "engine/quantizer/int8_rows.h"
#include "engine/quantizer/latent_codes.h"
#include "engine/quantizer/residual_stream.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct TuningOptions {
  int num_steps = 31;  // 0: none.
  int step_tokens =
      2048;              // In whole windows, none twice in a step; the next step goes on behind,
                         // in an order that mixes the text's parts, and at its end from its start.
  float rate = 4.5e-3f;  // Largest relative change of a factor in one step, about.
  float code_rate = 1.35e-2f;  // The same of a code, in codes; 0: codes are held.
  int num_threads = 1;
};

struct TuningResult {
  int num_steps = 0;
  bool has_codes = false;   // Whether they were tuned too.
  double first_loss = 0.0;  // Mean divergence from the float model, nats a token, of the first step
  double last_loss = 0.0;   // and of the last.
};

// What the float model says of the calibration windows, and the quantised model's fixed ends.
struct TuningTask {
  WindowRows inputs;                         // [window][tokens, hidden]: embedded by the
                                             // quantised model
  WindowRows float_outputs;                  // The float model's, ahead of its last norm
  std::span<const float> float_norm;         // [hidden]
  std::span<const float> float_head;         // [vocab, hidden]
  const Int8Rows* quantized_head = nullptr;  // [vocab, hidden]
  // CodeResiduals() of each layer's linears; or empty: latents start at the codes.
  std::span<const LayerResiduals> residuals;
};

// Windows that tuning sees at most.
int64_t TuningWindows(const TuningOptions& options, int window_tokens);

// Steps in which so many windows are seen once: at most those of the options, at least one of them.
int StepsOfOneEpoch(const TuningOptions& options, int64_t num_windows, int window_tokens);

// Bytes of host and device memory that tuning holds at once, about, and whether that is for codes
// too.
struct TuningSize {
  int64_t num_bytes = 0;  // 0: the model is not tuned.
  bool has_codes = false;
};

// As much of tuning as `bytes_max` has room for.
TuningSize SizeOfTuning(const ModelConfig& config, int window_tokens, const TuningOptions& options,
                        int64_t bytes_max);

// Moves the row scales and codes of every linear layer and the weights of every norm, steps held,
// so that the quantised model's predictions on the calibration windows come nearer the float
// model's: Adam steps along the gradient of the Kullback-Leibler divergence, through weights, keys,
// values and the linears' inputs as quantised. The same input gives the same bytes on every thread
// count. On an error the layers are left in part changed. Errors: kFailedPrecondition (a divergence
// that is no finite number), those of the back end. Source:
// EfficientQAT's end-to-end phase (arXiv:2407.11062), row scales in place of group scales; codes
// as in LLM-QAT (arXiv:2305.17888), from what they were rounded from; norm tweaking
// (arXiv:2309.02784).
Result<TuningResult> TuneModel(Backend& backend, const ModelConfig& config, const TuningTask& task,
                               const TuningOptions& options, std::span<QuantizedLayer> layers,
                               std::vector<float>& final_norm,
                               const std::function<void()>& on_step);

}  // namespace comet
