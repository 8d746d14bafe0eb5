#include "engine/model/step_workspace.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

TensorView ContiguousCut(const TensorView& tensor, int num_rows, int num_columns) {
  return TensorView(tensor.data(), tensor.dtype(), {num_rows, num_columns});
}

constexpr int kNumArrays = 5;  // Of StepInput.

}  // namespace

Result<StepWorkspace> StepWorkspace::Create(Device& device, const ModelConfig& config,
                                            ActivationMode activations,
                                            const WorkspaceLimits& limits) {
  const bool is_float = activations == ActivationMode::kFloat;
  const DType dtype = is_float ? DType::kF32 : DType::kF16;
  const int num_tokens = limits.step_tokens_max;
  const int inputs_max = std::max({config.hidden_size, config.q_size(), config.ffn_size});
  const int64_t num_words = limits.step_tokens_max +
                            int64_t{limits.sequences_max} * (2 + limits.pages_per_sequence_max) +
                            1 + limits.logits_rows_max;

  StepWorkspace workspace;
  workspace.limits_ = limits;
  workspace.q_size_ = config.q_size();
  const auto allocate = [&](DeviceTensor& tensor, DType type, TensorShape shape) -> Status {
    COMET_ASSIGN_OR_RETURN(tensor, DeviceTensor::Allocate(device, type, shape));
    return Status::Ok();
  };
  COMET_RETURN_IF_ERROR(allocate(workspace.hidden_, dtype, {num_tokens, config.hidden_size}));
  COMET_RETURN_IF_ERROR(allocate(workspace.qkv_, dtype, {num_tokens, config.qkv_size()}));
  COMET_RETURN_IF_ERROR(allocate(workspace.attention_, dtype, {num_tokens, config.q_size()}));
  COMET_RETURN_IF_ERROR(allocate(workspace.gate_up_, dtype, {num_tokens, 2 * config.ffn_size}));
  COMET_RETURN_IF_ERROR(
      allocate(workspace.input_, is_float ? DType::kF32 : DType::kI8, {num_tokens, inputs_max}));
  COMET_RETURN_IF_ERROR(allocate(workspace.input_scalars_, DType::kI32, {4, num_tokens}));
  COMET_ASSIGN_OR_RETURN(workspace.upload_, StepUpload::Create(device, num_words, kNumArrays));
  if (limits.attention_scratch_bytes > std::numeric_limits<int>::max()) {
    return FailedPrecondition(StrCat("attention needs ", limits.attention_scratch_bytes,
                                     " bytes of scratch for the context length, expected at most ",
                                     std::numeric_limits<int>::max(), ": lower --context-length"));
  }
  if (limits.attention_scratch_bytes > 0) {
    COMET_RETURN_IF_ERROR(allocate(workspace.attention_scratch_, DType::kU8,
                                   {static_cast<int>(limits.attention_scratch_bytes)}));
  }
  return workspace;
}

// The step with its padding.
struct StepWorkspace::StepSize {
  size_t num_given;  // Sequences that are no padding.
  size_t num_sequences;
  size_t num_tokens;
  size_t num_logits_rows;
};

StepWorkspace::StepSize StepWorkspace::CheckSize(const StepInput& step,
                                                 const StepPadding& padding) const {
  const size_t num_given = step.context_length.size();
  const size_t num_sequences = std::max(num_given, static_cast<size_t>(padding.num_sequences));
  const size_t num_added = num_sequences - num_given;
  const StepSize size{.num_given = num_given,
                      .num_sequences = num_sequences,
                      .num_tokens = step.token_ids.size() + num_added,
                      .num_logits_rows = step.logits_rows.size() + num_added};
  COMET_CHECK(size.num_sequences <= static_cast<size_t>(limits_.sequences_max));
  COMET_CHECK(size.num_tokens <= static_cast<size_t>(limits_.step_tokens_max));
  COMET_CHECK(size.num_logits_rows <= static_cast<size_t>(limits_.logits_rows_max));
  COMET_CHECK(step.query_start.size() == num_given + 1);
  COMET_CHECK(step.query_start.back() == static_cast<int>(step.token_ids.size()));
  COMET_CHECK(step.page_table.size() ==
              num_given * static_cast<size_t>(limits_.pages_per_sequence_max));
  COMET_CHECK(num_added == 0 ||
              (step.token_ids.size() == num_given && step.logits_rows.size() == num_given));
  return size;
}

Status StepWorkspace::Begin(const StepInput& step, const StepPadding& padding) {
  const StepSize size = CheckSize(step, padding);
  const bool has_padding = size.num_sequences > size.num_given;
  batch_.num_tokens = static_cast<int>(size.num_tokens);
  batch_.context_length_max = std::max(padding.context_length_max, has_padding ? 1 : 0);
  batch_.query_length_max = has_padding ? 1 : 0;
  for (size_t s = 0; s < size.num_given; ++s) {
    batch_.context_length_max = std::max(batch_.context_length_max, step.context_length[s]);
    batch_.query_length_max =
        std::max(batch_.query_length_max, step.query_start[s + 1] - step.query_start[s]);
  }

  COMET_RETURN_IF_ERROR(upload_.Begin());
  const auto put = [&](std::span<const int> values, size_t count, auto added) {
    const StepUpload::Array<int32_t> array = upload_.TakeInts(count);
    auto next = std::copy(values.begin(), values.end(), array.host.begin());
    for (int i = 0; next != array.host.end(); ++next, ++i) *next = added(i);
    return array.device;
  };
  token_ids_ = put(step.token_ids, size.num_tokens, [](int) { return 0; });
  batch_.query_start = put(step.query_start, size.num_sequences + 1,
                           [&](int i) { return step.query_start.back() + i + 1; });
  batch_.context_length = put(step.context_length, size.num_sequences, [](int) { return 1; });
  logits_rows_ = put(step.logits_rows, size.num_logits_rows,
                     [&](int i) { return static_cast<int>(size.num_given) + i; });
  PutPages(step, size, padding.page_id);
  return upload_.Send();
}

void StepWorkspace::PutPages(const StepInput& step, const StepSize& size, int padding_page_id) {
  // Columns past the longest context are never read.
  const int num_columns = CeilDiv(batch_.context_length_max, kPageTokens);
  const StepUpload::Array<int32_t> table =
      upload_.TakeInts(size.num_sequences * static_cast<size_t>(num_columns));
  auto table_row = table.host.begin();
  auto given_row = step.page_table.begin();
  for (size_t s = 0; s < size.num_given; ++s, given_row += limits_.pages_per_sequence_max) {
    table_row = std::copy_n(given_row, num_columns, table_row);
  }
  std::fill(table_row, table.host.end(), padding_page_id);
  batch_.page_table = ConstTensorView(table.device.data(), DType::kI32,
                                      {static_cast<int>(size.num_sequences), num_columns});
}

TensorView StepWorkspace::queries() const {
  const TensorView all = qkv();
  TensorShape shape = all.shape();
  shape.set_dim(1, q_size_);
  return TensorView(all.data(), all.dtype(), shape);
}

LinearInput StepWorkspace::Input(const ActivationFormat& format, int num_channels) const {
  return Input(format, num_channels, num_tokens());
}

LinearInput StepWorkspace::Input(const ActivationFormat& format, int num_channels,
                                 int num_rows) const {
  LinearInput input;
  input.format = format;
  const TensorView data = ContiguousCut(input_.view(), num_rows, num_channels);
  if (format.mode == ActivationMode::kFloat) {
    input.values = data;
    return input;
  }
  int* const scalars = input_scalars_.view().as<int>();
  input.codes = data;
  input.scale = TensorView(scalars, DType::kF32, {num_rows});
  input.exponent = TensorView(scalars + limits_.step_tokens_max, DType::kI32, {num_rows});
  input.code_sum = TensorView(scalars + 2 * limits_.step_tokens_max, DType::kI32, {num_rows, 2});
  return input;
}

int64_t StepWorkspace::num_bytes() const {
  return hidden_.num_bytes() + qkv_.num_bytes() + attention_.num_bytes() + gate_up_.num_bytes() +
         input_.num_bytes() + input_scalars_.num_bytes() + upload_.num_bytes() +
         attention_scratch_.num_bytes();
}

}  // namespace comet
