#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/status.h"
#include "kernels/ops/kv_cache_view.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/linear_input.h"

namespace comet {

struct OpBenchOptions {
  ActivationMode mode = ActivationMode::kInt8;
  double int4_share = 0.75;     // Of K, rounded down to blocks: the paper's share.
  bool has_baselines = true;    // cuBLASLt's fp16, INT8 and FP8 products beside ours.
  bool has_other_mode = false;  // Our W4Ax product in the other mode beside ours.
  bool has_residual = false;    // Our products add to y in place, as o and down do in a step.
  int num_repeats = 9;          // Of each kernel, in turn with the others; medians count.
  int num_heuristics_max = 32;  // Algorithms of cuBLASLt timed a product; the fastest counts.

  Status Validate() const;
};

// What the card did when the bench began.
struct BenchDevice {
  std::string description;
  int num_sms = 0;
  double copy_bytes_per_second = 0;      // Device to device, bytes read and written.
  double int8_ops_per_clock_and_sm = 0;  // Of the tensor cores; 0: not known.
  std::string clock_source;              // Where sm_clock_mhz comes from; empty: nowhere.
  std::string cublaslt;                  // Its version; empty: no baselines.
};

struct KernelTime {
  std::string kernel;  // "w4ax", "int8_linear", "cublaslt_fp16" ...
  double us = 0;       // Median of one launch.
  double us_min = 0;
  double us_max = 0;
  int num_tokens = 0;    // As run: a baseline without a kernel for M runs the next multiple of 16.
  int num_launches = 0;  // Of a replay.
  int num_weight_copies = 0;
};

// One size. `times` begins with our kernel.
struct OpMeasurement {
  int num_tokens = 0;
  double num_bytes = 0;     // Least traffic of our kernel: operands and result once.
  double num_ops = 0;       // 2 M N K of a product; otherwise 0.
  double sm_clock_mhz = 0;  // While our kernel ran; 0: unknown.
  std::vector<KernelTime> times;
};

enum class RowOp { kRmsNorm, kGather, kSiluMul, kEmbedding };

struct RowOpCase {
  RowOp op = RowOp::kRmsNorm;
  DType dtype = DType::kF32;  // Of the op's float operand.
  int num_channels = 0;       // K of what the op writes.
};

// Sequences of one length, the last `num_queries` tokens of each in the step.
struct AttentionCase {
  int num_heads = 32;
  int num_kv_heads = 8;
  int head_dim = 128;
  KvFormat format;
  int num_sequences = 1;
  int context_length = 1;
  int num_queries = 1;  // At most context_length; 1: decode.
  int window = 0;
};

// Times a device's ops as a step runs them: replayed graphs, weights that the cache does not hold,
// the median of alternating repeats. Confined to one thread.
class OpBench {
 public:
  virtual ~OpBench() = default;

  virtual const BenchDevice& device() const = 0;

  using Progress = std::function<void(int num_tokens)>;
  // y = x W^T with random W [num_outputs, num_inputs], for each number of tokens.
  virtual Result<std::vector<OpMeasurement>> MeasureProduct(WeightKind kind, int num_outputs,
                                                            int num_inputs,
                                                            std::span<const int> num_tokens,
                                                            const Progress& progress) = 0;
  virtual Result<std::vector<OpMeasurement>> MeasureRowOp(const RowOpCase& c,
                                                          std::span<const int> num_tokens) = 0;
  // num_bytes is the part of the cache that is read, num_ops four times head_dim a head, query and
  // position that it sees.
  virtual Result<OpMeasurement> MeasureAttention(const AttentionCase& c) = 0;
  // The op that appends those queries' tokens: num_bytes is qkv, the queries and the codes, once.
  virtual Result<OpMeasurement> MeasureRopeAppend(const AttentionCase& c) = 0;
};

// A bench of cuda device 0, the only one there is. Errors: kInvalidArgument: an option;
// kUnimplemented: this build has no CUDA; kInternal: no device answers; kNotFound: baselines are
// wanted and no cuBLASLt is found.
Result<std::unique_ptr<OpBench>> MakeOpBench(const OpBenchOptions& options);

}  // namespace comet
