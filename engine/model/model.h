#pragma once

#include <cstdint>
#include <memory>

#include "engine/model/model_config.h"
#include "engine/model/precision.h"
#include "engine/model/step_input.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

class Checkpoint;
class FloatSource;
struct SyntheticModel;

// Most a Model is asked for at once; its activations and logits are allocated for it at load.
struct ModelLimits {
  int step_tokens_max = 2048;
  int sequences_max = 64;
  int logits_rows_max = 64;
  int pages_per_sequence_max = 128;
  int num_pages = 1024;  // KV-cache pages of the pool, kPageTokens tokens each.
};

// What a step needs of device memory, and what a page of the KV cache costs; for planning before
// load.
struct ModelMemory {
  int64_t weights_bytes = 0;
  int64_t activations_bytes = 0;
  int64_t kv_page_bytes = 0;  // One page, every layer.
};

// A LLaMA-family decoder on one back end: weights, KV cache and scratch. Written once against Ops.
// Confined to the step thread after loading.
class Model {
 public:
  // 4-bit weights of a comet checkpoint. Errors: kDataLoss (the checkpoint contradicts itself),
  // kResourceExhausted (naming need and have), kInvalidArgument (precision).
  static Result<std::unique_ptr<Model>> Load(Backend& backend, const Checkpoint& checkpoint,
                                             const Precision& precision, const ModelLimits& limits);
  // Unquantised weights.
  static Result<std::unique_ptr<Model>> Load(Backend& backend, FloatSource& source,
                                             const Precision& precision, const ModelLimits& limits);
  // Random 4-bit weights, made where the back end makes them fastest.
  static Result<std::unique_ptr<Model>> Load(Backend& backend, const SyntheticModel& synthetic,
                                             const Precision& precision, const ModelLimits& limits);
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const Precision& precision() const = 0;
  virtual ModelMemory memory() const = 0;

  // Where negative token ids of a step are looked up from now on (EmbeddingArgs::sampled); stays
  // while the model is used.
  virtual void ReadSampledTokens(ConstTensorView sampled) = 0;
  // Captures decode steps of padded sizes, so that Forward() issues one by a single call. Needs an
  // asynchronous device. What Forward() returns keeps its bits.
  virtual Status CaptureDecodeSteps() = 0;
  // Every step is issued op by op from now on, as a profile of the ops needs.
  virtual void ForgetDecodeSteps() = 0;

  // Issues the decoder over the step's tokens, whose keys and values are appended to the cache.
  // Returns logits [logits_rows.size(), vocab_size] f32 in device memory, valid until the next
  // call.
  virtual Result<TensorView> Forward(const StepInput& step) = 0;
};

}  // namespace comet
