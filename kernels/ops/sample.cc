#include "kernels/ops/sample.h"

#include <string_view>

#include "kernels/base/shape_check.h"

namespace comet {
namespace {

struct Column {
  std::string_view name;
  ConstTensorView tensor;
  DType dtype;
};

void CheckColumns(ShapeCheck& check, Dim& length, std::initializer_list<Column> columns) {
  for (const Column& column : columns) {
    check.Shape(column.name, column.tensor, {&length})
        .DTypeIn(column.name, column.tensor, {column.dtype})
        .UnitStride(column.name, column.tensor);
  }
}

void CheckTop(ShapeCheck& check, Dim& num_rows, const SampleArgs& args) {
  if (!args.top_ids.is_present() && !args.top_logprobs.is_present()) return;
  Dim num_top{"num_top"};
  check.Shape("top_ids", args.top_ids, {&num_rows, &num_top})
      .Shape("top_logprobs", args.top_logprobs, {&num_rows, &num_top})
      .DTypeIn("top_ids", args.top_ids, {DType::kI32})
      .DTypeIn("top_logprobs", args.top_logprobs, {DType::kF32})
      .UnitStride("top_ids", args.top_ids)
      .UnitStride("top_logprobs", args.top_logprobs)
      .Require(num_top.value <= kTopLogprobsMax && num_top.value <= args.logits.dim(1),
               "num_top is ", num_top.value, ", expected at most 20 and vocab_size");
}

}  // namespace

Status Validate(const SampleArgs& args) {
  ShapeCheck check("sample");
  Dim num_rows{"num_rows"};
  Dim vocab_size{"vocab_size"};
  check.Shape("logits", args.logits, {&num_rows, &vocab_size})
      .DTypeIn("logits", args.logits, {DType::kF32})
      .UnitStride("logits", args.logits);
  COMET_RETURN_IF_ERROR(check.status());
  check.Require(vocab_size.value >= 1 || num_rows.value == 0, "vocab_size is 0");

  CheckColumns(check, num_rows,
               {{"token", args.token, DType::kI32},
                {"logprob", args.logprob, DType::kF32},
                {"nonfinite_count", args.nonfinite_count, DType::kI32},
                {"temperature", args.temperature, DType::kF32},
                {"top_k", args.top_k, DType::kI32},
                {"top_p", args.top_p, DType::kF32},
                {"min_p", args.min_p, DType::kF32},
                {"repetition_penalty", args.repetition_penalty, DType::kF32},
                {"presence_penalty", args.presence_penalty, DType::kF32},
                {"frequency_penalty", args.frequency_penalty, DType::kF32},
                {"uniform", args.uniform, DType::kF32}});
  Dim num_starts{"num_rows + 1", num_rows.value + 1};
  CheckColumns(check, num_starts,
               {{"history_start", args.history_start, DType::kI32},
                {"bias_start", args.bias_start, DType::kI32}});
  Dim history_size{"history_start[num_rows]"};
  CheckColumns(check, history_size,
               {{"history_ids", args.history_ids, DType::kI32},
                {"history_counts", args.history_counts, DType::kI32}});
  Dim bias_size{"bias_start[num_rows]"};
  CheckColumns(
      check, bias_size,
      {{"bias_ids", args.bias_ids, DType::kI32}, {"bias_values", args.bias_values, DType::kF32}});
  CheckTop(check, num_rows, args);
  if (args.scratch.is_present()) {
    check.Shape("scratch", args.scratch, {&num_rows, &vocab_size})
        .DTypeIn("scratch", args.scratch, {DType::kF32})
        .Contiguous("scratch", args.scratch);
  }
  return check.status();
}

}  // namespace comet
