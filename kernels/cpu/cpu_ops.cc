#include "kernels/cpu/cpu_ops.h"

#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"
#include "kernels/cpu/kv_page.h"

namespace comet {
namespace {

// Appending to the cache and the embedding have one version, compiled for any processor.
std::string DescriptionOf(std::string_view isa) {
  return StrCat("linear: ", isa, ", attention: ", isa, ", rms_norm: ", isa, ", gather: ", isa,
                ", silu_mul: ", isa, ", sample: ", isa, ", rope_append: portable",
                ", embedding: portable");
}

}  // namespace

CpuOps::CpuOps(Device& device, const CpuOptions& options)
    : device_(device),
      kernels_(cpu::KernelsOf(options.isa)),
      description_(DescriptionOf(kernels_.name)),
      num_threads_(options.num_threads),
      scratch_(static_cast<size_t>(options.num_threads)) {}

Result<std::unique_ptr<PackedLinear>> CpuOps::PackLinear(const W4axWeights& weights) {
  return cpu::CpuLinear::Pack(device_, pool(), weights);
}

Result<std::unique_ptr<PackedLinear>> CpuOps::PackLinear(const Int8Weights& weights) {
  return cpu::CpuLinear::Pack(device_, pool(), weights);
}

Result<std::unique_ptr<PackedLinear>> CpuOps::PackLinear(const FloatWeights& weights) {
  return cpu::CpuLinear::Pack(device_, pool(), weights);
}

int64_t CpuOps::KvPageBytes(const KvFormat& format, int num_kv_heads, int head_dim) const {
  return num_kv_heads * cpu::MakeKvHeadLayout(format, head_dim).head_bytes;
}

Status CpuOps::Embedding(const EmbeddingArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  const cpu::CpuLinear& table = cpu::CpuLinear::Unpack(*args.table);
  ForTokens(args.ids.dim(0), [&](int t, ThreadScratch& scratch) {
    float* row = scratch.row.Get(table.num_inputs());
    const int token_id = HostTokenId(args, t);
    if (table.is_half()) {
      kernels_.half_to_float(table.half_row(token_id), table.num_inputs(), row);
    } else {
      table.CopyRow(token_id, row);
    }
    StoreRow(args.out, t, 0, table.num_inputs(), row);
  });
  return Status::Ok();
}

void CpuOps::LoadRow(const ConstTensorView& x, int row, int column, int count, float* out) const {
  const int64_t offset = row * x.stride(0) + column;
  if (x.dtype() == DType::kF16) {
    kernels_.half_to_float(static_cast<const uint16_t*>(x.data()) + offset, count, out);
  } else {
    std::copy_n(x.as<float>() + offset, count, out);
  }
}

void CpuOps::StoreRow(const TensorView& out, int row, int column, int count, float* x) const {
  const int64_t offset = row * out.stride(0) + column;
  if (out.dtype() == DType::kF16) {
    kernels_.float_to_half(x, count, static_cast<uint16_t*>(out.data()) + offset);
  } else {
    std::copy_n(x, count, out.as<float>() + offset);
  }
}

void CpuOps::WriteLinearInput(float* x, int token_idx, const LinearInput& out) const {
  const ActivationFormat& format = out.format;
  if (format.mode == ActivationMode::kFloat) {
    return StoreRow(out.values, token_idx, 0, out.values.dim(1), x);
  }
  const bool is_mixed = format.mode == ActivationMode::kMixed;
  kernels_.quantize_row({.x = x,
                         .num_channels = out.codes.dim(1),
                         .num_int4_channels = format.num_int4_channels,
                         .int4_limit = is_mixed ? 7.0f : 127.0f,
                         .clip = is_mixed ? format.clip : 1.0f,
                         .exponent_max = format.exponent_max,
                         .codes = out.codes.as<int8_t>() + token_idx * out.codes.stride(0),
                         .scale = out.scale.as<float>() + token_idx,
                         .exponent = out.exponent.as<int32_t>() + token_idx,
                         .code_sum = out.code_sum.as<int32_t>() + 2 * token_idx});
}

}  // namespace comet
