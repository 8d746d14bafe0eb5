#include "engine/model/step_workspace.h"

#include <algorithm>

namespace comet {
namespace {

TensorView ContiguousCut(const TensorView& tensor, int num_rows, int num_columns) {
  return TensorView(tensor.data(), tensor.dtype(), {num_rows, num_columns});
}

}  // namespace

Result<StepWorkspace> StepWorkspace::Create(Device& device, const ModelConfig& config,
                                            ActivationMode activations,
                                            const WorkspaceLimits& limits) {
  const bool is_float = activations == ActivationMode::kFloat;
  const DType dtype = is_float ? DType::kF32 : DType::kF16;
  const int num_tokens = limits.step_tokens_max;
  const int inputs_max = std::max({config.hidden_size, config.q_size(), config.ffn_size});
  const int num_metadata = limits.sequences_max * (2 + limits.pages_per_sequence_max) + 1;

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
  COMET_RETURN_IF_ERROR(allocate(workspace.metadata_, DType::kI32, {num_metadata}));
  if (limits.attention_scratch_bytes > 0) {
    COMET_RETURN_IF_ERROR(allocate(workspace.attention_scratch_, DType::kU8,
                                   {static_cast<int>(limits.attention_scratch_bytes)}));
  }
  workspace.staging_.reserve(static_cast<size_t>(num_metadata));
  return workspace;
}

Status StepWorkspace::Begin(Device& device, std::span<const int> query_start,
                            std::span<const int> context_length, std::span<const int> page_table) {
  const int num_sequences = static_cast<int>(context_length.size());
  COMET_CHECK(num_sequences <= limits_.sequences_max);
  COMET_CHECK(query_start.size() == context_length.size() + 1);
  COMET_CHECK(query_start.back() <= limits_.step_tokens_max);
  COMET_CHECK(page_table.size() ==
              context_length.size() * static_cast<size_t>(limits_.pages_per_sequence_max));

  staging_.assign(query_start.begin(), query_start.end());
  staging_.insert(staging_.end(), context_length.begin(), context_length.end());
  staging_.insert(staging_.end(), page_table.begin(), page_table.end());
  int* const base = metadata_.view().as<int>();
  COMET_RETURN_IF_ERROR(device.CopyToDevice(base, staging_.data(),
                                            static_cast<int64_t>(staging_.size() * sizeof(int))));

  const int* const lengths = base + num_sequences + 1;
  batch_.query_start = ConstTensorView(base, DType::kI32, {num_sequences + 1});
  batch_.context_length = ConstTensorView(lengths, DType::kI32, {num_sequences});
  batch_.page_table = ConstTensorView(lengths + num_sequences, DType::kI32,
                                      {num_sequences, limits_.pages_per_sequence_max});
  batch_.num_tokens = query_start.back();
  batch_.context_length_max = *std::max_element(context_length.begin(), context_length.end());
  batch_.query_length_max = 0;
  for (size_t s = 0; s < context_length.size(); ++s) {
    batch_.query_length_max =
        std::max(batch_.query_length_max, query_start[s + 1] - query_start[s]);
  }
  return Status::Ok();
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
         input_.num_bytes() + input_scalars_.num_bytes() + metadata_.num_bytes() +
         attention_scratch_.num_bytes();
}

}  // namespace comet
