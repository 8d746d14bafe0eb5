// The ops that work on one token's row at a time and write the input of a linear layer.
#include <algorithm>
#include <cmath>

#include "kernels/base/math.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/hadamard.h"

namespace comet {
namespace {

// Zeros from `count` to the next multiple of sixteen, where the kernels' last vector ends.
void PadRow(float* row, int count) {
  std::fill(row + count, row + AlignUp(count, cpu::kLanes), 0.0f);
}

// out[j] = x[gather[j]]
void Permute(const float* x, const ConstTensorView& gather, int count, float* out) {
  const int32_t* order = gather.as<int32_t>();
  for (int j = 0; j < count; ++j) out[j] = x[order[j]];
}

}  // namespace

Status CpuOps::RmsNorm(const RmsNormArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  COMET_RETURN_IF_ERROR(RequireByteCodes("rms_norm", args.out.format));
  const int hidden_size = args.x.dim(1);
  if (hidden_size == 0) return Status::Ok();
  const int padded_size = AlignUp(hidden_size, cpu::kLanes);
  ForTokens(args.out.num_tokens(), [&](int t, ThreadScratch& scratch) {
    float* row = scratch.row.Get(padded_size);
    float* permuted = scratch.second_row.Get(padded_size);
    LoadRow(args.x, args.rows.is_present() ? args.rows.as<int32_t>()[t] : t, 0, hidden_size, row);
    PadRow(row, hidden_size);
    const float sum = kernels_.sum_squares(row, hidden_size);
    const float mean = sum / static_cast<float>(hidden_size);
    const float inverse_rms = 1.0f / std::sqrt(mean + args.epsilon);
    kernels_.scale_row(row, inverse_rms, args.weight.as<float>(), hidden_size, row);
    if (!args.gather.is_present()) return WriteLinearInput(row, t, args.out);
    Permute(row, args.gather, hidden_size, permuted);
    PadRow(permuted, hidden_size);
    WriteLinearInput(permuted, t, args.out);
  });
  return Status::Ok();
}

Status CpuOps::Gather(const GatherArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  COMET_RETURN_IF_ERROR(RequireByteCodes("gather", args.out.format));
  const int num_channels = args.x.dim(1);
  const int padded_size = AlignUp(num_channels, cpu::kLanes);
  ForTokens(args.x.dim(0), [&](int t, ThreadScratch& scratch) {
    float* row = scratch.row.Get(padded_size);
    float* permuted = scratch.second_row.Get(padded_size);
    LoadRow(args.x, t, 0, num_channels, row);
    PadRow(row, num_channels);
    if (!args.gather.is_present()) return WriteLinearInput(row, t, args.out);
    Permute(row, args.gather, num_channels, permuted);
    PadRow(permuted, num_channels);
    WriteLinearInput(permuted, t, args.out);
  });
  return Status::Ok();
}

Status CpuOps::SiluMul(const SiluMulArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  COMET_RETURN_IF_ERROR(RequireByteCodes("silu_mul", args.out.format));
  const int ffn_size = args.out.num_channels();
  const int padded_size = AlignUp(ffn_size, cpu::kLanes);
  ForTokens(args.gate_up.dim(0), [&](int t, ThreadScratch& scratch) {
    float* gate = scratch.row.Get(padded_size);
    float* up = scratch.second_row.Get(padded_size);
    LoadRow(args.gate_up, t, 0, ffn_size, gate);
    LoadRow(args.gate_up, t, ffn_size, ffn_size, up);
    kernels_.silu_mul(gate, up, ffn_size, gate);
    PadRow(gate, ffn_size);
    for (int j = 0; j < args.num_hadamard_channels; j += kBlockChannels) {
      cpu::Hadamard(gate + j, kBlockChannels);
    }
    WriteLinearInput(gate, t, args.out);
  });
  return Status::Ok();
}

}  // namespace comet
