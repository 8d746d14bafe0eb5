#include "kernels/timed_ops.h"

#include <algorithm>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr double kScalarBytes = 16;  // Scale, exponent and the two sums of a row of codes.

double Bytes(const ConstTensorView& tensor) {
  if (!tensor.is_present()) return 0;
  return static_cast<double>(tensor.shape().num_elements()) * BytesOf(tensor.dtype());
}

double Bytes(const LinearInput& input) {
  return input.format.mode == ActivationMode::kFloat
             ? Bytes(input.values)
             : Bytes(input.codes) + kScalarBytes * input.num_tokens();
}

// Of one token in one layer's cache.
double CacheTokenBytes(const KvCacheView& cache) {
  return static_cast<double>(cache.pages.dim(1)) / kPageTokens;
}

double NumTokens(const ConstTensorView& rows) { return rows.dim(0); }

}  // namespace

void TimedOps::Start() {
  is_timing_ = true;
  num_calls_ = 0;
  class_of_call_.clear();
  classes_.clear();
  class_idx_.clear();
}

Result<std::vector<OpClassTime>> TimedOps::Stop() {
  is_timing_ = false;
  COMET_RETURN_IF_ERROR(device_.Synchronize());
  if (2 * num_calls_ > Device::kTimeMarksMax) {
    return ResourceExhausted(StrCat("timed_ops: the calls are ", num_calls_, ", expected at most ",
                                    Device::kTimeMarksMax / 2));
  }
  for (int i = 0; i < num_calls_; ++i) {
    COMET_ASSIGN_OR_RETURN(const double us, device_.MicrosecondsBetween(2 * i, 2 * i + 1));
    classes_[class_of_call_[static_cast<size_t>(i)]].us += us;
  }
  return classes_;
}

template <typename Args>
Status TimedOps::Time(Status (Ops::*op)(const Args&), const Args& args, const std::string& name,
                      const Work& work) {
  const auto [entry, is_new] = class_idx_.try_emplace(name, classes_.size());
  if (is_new) classes_.push_back({.name = name});
  OpClassTime& time = classes_[entry->second];
  ++time.num_calls;
  time.num_bytes += work.num_bytes;
  time.num_int8_ops += work.num_int8_ops;
  time.num_f16_ops += work.num_f16_ops;
  const int begin = 2 * num_calls_++;
  if (begin + 1 >= Device::kTimeMarksMax) return (ops().*op)(args);  // Stop() tells.
  class_of_call_.push_back(entry->second);
  COMET_RETURN_IF_ERROR(device_.MarkTime(begin));
  COMET_RETURN_IF_ERROR((ops().*op)(args));
  return device_.MarkTime(begin + 1);
}

Status TimedOps::Embedding(const EmbeddingArgs& args) {
  if (!is_timing_) return ForwardingOps::Embedding(args);
  return Time(&Ops::Embedding, args, "embedding", {.num_bytes = 2 * Bytes(args.out)});
}

Status TimedOps::RmsNorm(const RmsNormArgs& args) {
  if (!is_timing_) return ForwardingOps::RmsNorm(args);
  const double row_bytes = Bytes(args.x) / std::max(NumTokens(args.x), 1.0);
  return Time(&Ops::RmsNorm, args, "rms_norm",
              {.num_bytes = row_bytes * args.out.num_tokens() + Bytes(args.out)});
}

Status TimedOps::Gather(const GatherArgs& args) {
  if (!is_timing_) return ForwardingOps::Gather(args);
  return Time(&Ops::Gather, args, "gather", {.num_bytes = Bytes(args.x) + Bytes(args.out)});
}

Status TimedOps::SiluMul(const SiluMulArgs& args) {
  if (!is_timing_) return ForwardingOps::SiluMul(args);
  return Time(&Ops::SiluMul, args, "silu_mul",
              {.num_bytes = Bytes(args.gate_up) + Bytes(args.out)});
}

Status TimedOps::Linear(const LinearArgs& args) {
  if (!is_timing_) return ForwardingOps::Linear(args);
  const PackedLinear& weights = *args.weights;
  const char* kind = weights.kind() == WeightKind::kW4ax   ? "w4ax "
                     : weights.kind() == WeightKind::kInt8 ? "int8 "
                                                           : "float ";
  const double num_ops = 2.0 * args.x.num_tokens() * weights.num_outputs() * weights.num_inputs();
  const bool is_float = weights.kind() == WeightKind::kFloat;
  return Time(&Ops::Linear, args, StrCat(kind, weights.num_outputs(), "x", weights.num_inputs()),
              {.num_bytes = static_cast<double>(weights.num_bytes()) + Bytes(args.x) +
                            Bytes(args.y) + Bytes(args.residual),
               .num_int8_ops = is_float ? 0.0 : num_ops,
               .num_f16_ops = is_float ? num_ops : 0.0});
}

Status TimedOps::RopeAppend(const RopeAppendArgs& args) {
  if (!is_timing_) return ForwardingOps::RopeAppend(args);
  return Time(&Ops::RopeAppend, args, "rope_append",
              {.num_bytes = Bytes(args.qkv) + Bytes(args.q_out) +
                            NumTokens(args.qkv) * CacheTokenBytes(args.cache)});
}

// Contexts are taken to be all of the longest one's length, chunks to be at their ends.
Status TimedOps::Attention(const AttentionArgs& args) {
  if (!is_timing_) return ForwardingOps::Attention(args);
  const double chunk = args.batch.query_length_max;
  const double window = args.window > 0 ? args.window : args.batch.context_length_max;
  const double context = std::min(args.batch.context_length_max + 0.0, window + chunk - 1);
  const double num_tokens = args.batch.num_tokens;
  const double read = std::min(context - (chunk - 1) / 2, window);  // Keys of a query, at the mean.
  return Time(&Ops::Attention, args, chunk > 1 ? "attention (chunks)" : "attention (decode)",
              {.num_bytes = args.batch.num_sequences() * context * CacheTokenBytes(args.cache) +
                            Bytes(args.q) + Bytes(args.out),
               .num_f16_ops = 4.0 * num_tokens * args.num_heads * args.cache.head_dim * read});
}

Status TimedOps::Sample(const SampleArgs& args) {
  if (!is_timing_) return ForwardingOps::Sample(args);
  return Time(&Ops::Sample, args, "sample", {.num_bytes = Bytes(args.logits)});
}

}  // namespace comet
