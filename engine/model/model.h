#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/model/model_config.h"
#include "engine/model/precision.h"
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

// One step's tokens, host memory, ragged by sequence (see BatchView).
struct StepInput {
  std::span<const int> token_ids;       // [num_tokens]
  std::span<const int> query_start;     // [num_sequences + 1]
  std::span<const int> context_length;  // [num_sequences]
  std::span<const int> page_table;      // [num_sequences, pages_per_sequence_max] row-major
  std::span<const int> logits_rows;     // Token rows whose logits are wanted, ascending.
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

  // Runs the decoder over the step's tokens and appends their keys and values to the cache. Returns
  // logits [logits_rows.size(), vocab_size] f32 in device memory, valid until the next call.
  virtual Result<TensorView> Forward(const StepInput& step) = 0;
};

}  // namespace comet
