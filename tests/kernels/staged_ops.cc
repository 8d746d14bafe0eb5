#include "tests/kernels/staged_ops.h"

#include <algorithm>
#include <cstddef>
#include <list>
#include <vector>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int64_t kGuardBytes = 256;
constexpr std::byte kGuard{0x5a};

// From the first element to the last: the gaps between strided rows are part of it.
int64_t SpanBytes(const TensorShape& shape, DType dtype) {
  int64_t last = 0;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape.dim(i) == 0) return 0;
    last += (shape.dim(i) - 1) * shape.stride(i);
  }
  return (last + 1) * BytesOf(dtype);
}

// The copies of one call.
class Staging {
 public:
  explicit Staging(Device& device) : device_(device) {}

  TensorView Out(const TensorView& view) {
    if (!view.is_present()) return view;
    Copy& copy = CopyOf(view.data(), SpanBytes(view.shape(), view.dtype()));
    copy.written_host = view.data();
    return TensorView(copy.data(), view.dtype(), view.shape());
  }
  ConstTensorView In(const ConstTensorView& view) {
    if (!view.is_present()) return view;
    const Copy& copy = CopyOf(view.data(), SpanBytes(view.shape(), view.dtype()));
    return ConstTensorView(copy.data(), view.dtype(), view.shape());
  }
  LinearInput Out(LinearInput input) {
    for (TensorView* view : TensorsOf(input)) *view = Out(*view);
    return input;
  }
  LinearInput In(LinearInput input) {
    for (TensorView* view : TensorsOf(input)) {
      if (view->is_present()) {
        *view = TensorView(const_cast<void*>(In(*view).data()), view->dtype(), view->shape());
      }
    }
    return input;
  }

  BatchView In(BatchView batch) {
    batch.query_start = In(batch.query_start);
    batch.context_length = In(batch.context_length);
    batch.page_table = In(batch.page_table);
    return batch;
  }

  // Waits for the op, brings back what it wrote and checks the guards.
  Status Finish(Status issued) {
    COMET_RETURN_IF_ERROR(issued);
    for (Copy& copy : copies_) {
      std::vector<std::byte> bytes(static_cast<size_t>(copy.num_bytes + 2 * kGuardBytes));
      COMET_RETURN_IF_ERROR(
          device_.CopyToHost(bytes.data(), copy.buffer.data(), static_cast<int64_t>(bytes.size())));
      const auto first = bytes.begin() + kGuardBytes;
      const auto end = first + copy.num_bytes;
      const auto is_guard = [](std::byte byte) { return byte == kGuard; };
      if (!std::all_of(bytes.begin(), first, is_guard) ||
          !std::all_of(end, bytes.end(), is_guard)) {
        return Internal(StrCat("staged_ops: a guard byte around ", copy.num_bytes,
                               " bytes changed, expected none"));
      }
      if (copy.written_host != nullptr) {
        std::copy(first, end, static_cast<std::byte*>(copy.written_host));
      }
    }
    return Status::Ok();
  }

 private:
  struct Copy {
    const void* host = nullptr;
    void* written_host = nullptr;
    int64_t num_bytes = 0;
    DeviceBuffer buffer;

    void* data() const { return static_cast<std::byte*>(buffer.data()) + kGuardBytes; }
  };

  static std::vector<TensorView*> TensorsOf(LinearInput& input) {
    return {&input.values, &input.codes, &input.scale, &input.exponent, &input.code_sum};
  }

  Copy& CopyOf(const void* host, int64_t num_bytes) {
    for (Copy& copy : copies_) {
      if (copy.host == host && copy.num_bytes == num_bytes) return copy;
    }
    Copy& copy = copies_.emplace_back();
    copy.host = host;
    copy.num_bytes = num_bytes;
    std::vector<std::byte> bytes(static_cast<size_t>(num_bytes + 2 * kGuardBytes), kGuard);
    std::copy_n(static_cast<const std::byte*>(host), num_bytes, bytes.begin() + kGuardBytes);
    copy.buffer = device_.Allocate(static_cast<int64_t>(bytes.size())).value();
    const Status copied =
        device_.CopyToDevice(copy.buffer.data(), bytes.data(), static_cast<int64_t>(bytes.size()));
    COMET_CHECK_MSG(copied.ok(), copied.message());
    return copy;
  }

  Device& device_;
  std::list<Copy> copies_;
};

}  // namespace

Status StagedOps::Embedding(const EmbeddingArgs& args) {
  Staging staging(device_);
  EmbeddingArgs staged = args;
  staged.out = staging.Out(args.out);
  staged.ids = staging.In(args.ids);
  return staging.Finish(ops_.Embedding(staged));
}

Status StagedOps::RmsNorm(const RmsNormArgs& args) {
  Staging staging(device_);
  RmsNormArgs staged = args;
  staged.out = staging.Out(args.out);
  staged.x = staging.In(args.x);
  staged.weight = staging.In(args.weight);
  staged.gather = staging.In(args.gather);
  staged.rows = staging.In(args.rows);
  return staging.Finish(ops_.RmsNorm(staged));
}

Status StagedOps::Gather(const GatherArgs& args) {
  Staging staging(device_);
  GatherArgs staged = args;
  staged.out = staging.Out(args.out);
  staged.x = staging.In(args.x);
  staged.gather = staging.In(args.gather);
  return staging.Finish(ops_.Gather(staged));
}

Status StagedOps::SiluMul(const SiluMulArgs& args) {
  Staging staging(device_);
  SiluMulArgs staged = args;
  staged.out = staging.Out(args.out);
  staged.gate_up = staging.In(args.gate_up);
  return staging.Finish(ops_.SiluMul(staged));
}

Status StagedOps::Linear(const LinearArgs& args) {
  Staging staging(device_);
  LinearArgs staged = args;
  staged.y = staging.Out(args.y);
  staged.x = staging.In(args.x);
  staged.bias = staging.In(args.bias);
  staged.residual = staging.In(args.residual);
  return staging.Finish(ops_.Linear(staged));
}

Status StagedOps::RopeAppend(const RopeAppendArgs& args) {
  Staging staging(device_);
  RopeAppendArgs staged = args;
  staged.q_out = staging.Out(args.q_out);
  staged.cache.pages = staging.Out(args.cache.pages);
  staged.qkv = staging.In(args.qkv);
  staged.cos = staging.In(args.cos);
  staged.sin = staging.In(args.sin);
  staged.batch = staging.In(args.batch);
  return staging.Finish(ops_.RopeAppend(staged));
}

Status StagedOps::Attention(const AttentionArgs& args) {
  Staging staging(device_);
  AttentionArgs staged = args;
  staged.out = staging.Out(args.out);
  staged.q = staging.In(args.q);
  staged.scratch = staging.Out(args.scratch);
  staged.cache.pages = staging.Out(args.cache.pages);
  staged.batch = staging.In(args.batch);
  return staging.Finish(ops_.Attention(staged));
}

Status StagedOps::Sample(const SampleArgs& args) {
  Staging staging(device_);
  SampleArgs staged = args;
  for (TensorView* view : {&staged.token, &staged.logprob, &staged.nonfinite_count, &staged.top_ids,
                           &staged.top_logprobs, &staged.scratch}) {
    *view = staging.Out(*view);
  }
  for (ConstTensorView* view :
       {&staged.logits, &staged.temperature, &staged.top_k, &staged.top_p, &staged.min_p,
        &staged.repetition_penalty, &staged.presence_penalty, &staged.frequency_penalty,
        &staged.uniform, &staged.history_start, &staged.history_ids, &staged.history_counts,
        &staged.bias_start, &staged.bias_ids, &staged.bias_values}) {
    *view = staging.In(*view);
  }
  return staging.Finish(ops_.Sample(staged));
}

}  // namespace comet
