#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/thread_pool.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/packed_linear.h"
#include "kernels/cpu/scratch.h"
#include "kernels/device.h"
#include "kernels/ops.h"

namespace comet {

struct CpuOptions {
  cpu::Isa isa = cpu::Isa::kScalar;
  int num_threads = 1;
};

// The ops on the host's cores. Results depend neither on the number of threads nor on the
// instruction set. Scratch is kept between calls. Confined to the step thread.
class CpuOps final : public Ops {
 public:
  // `device` gives the memory of packed weights and outlives this.
  CpuOps(Device& device, const CpuOptions& options);

  Result<std::unique_ptr<PackedLinear>> PackLinear(const W4axWeights& weights) override;
  Result<std::unique_ptr<PackedLinear>> PackLinear(const Int8Weights& weights) override;
  Result<std::unique_ptr<PackedLinear>> PackLinear(const FloatWeights& weights) override;

  int64_t KvPageBytes(const KvFormat& format, int num_kv_heads, int head_dim) const override;
  int64_t AttentionScratchBytes(int, int) const override { return 0; }
  bool UsesSampleScratch() const override { return false; }
  std::string_view KernelDescription() const override { return description_; }

  Status Embedding(const EmbeddingArgs& args) override;
  Status RmsNorm(const RmsNormArgs& args) override;
  Status Gather(const GatherArgs& args) override;
  Status SiluMul(const SiluMulArgs& args) override;
  Status Linear(const LinearArgs& args) override;
  Status RopeAppend(const RopeAppendArgs& args) override;
  Status Attention(const AttentionArgs& args) override;
  Status Sample(const SampleArgs& args) override;

 private:
  // What one thread works in. Rows are padded to a multiple of sixteen floats.
  struct ThreadScratch {
    cpu::Scratch<float> row;
    cpu::Scratch<float> weights;
    cpu::Scratch<float> second_row;
    cpu::Scratch<float> queries;
    cpu::Scratch<float> outputs;
    cpu::Scratch<float> keys;
    cpu::Scratch<float> values;
    cpu::Scratch<float> state;
    cpu::Scratch<int32_t> num_visible;
    cpu::Scratch<const uint8_t*> heads;
    cpu::Scratch<int> ids;
    cpu::Scratch<int> kept_ids;
    cpu::Scratch<uint8_t> codes;
  };

  // A tile of one sequence's queries with all heads of one GQA group.
  struct AttentionItem {
    int sequence_idx;
    int kv_head_idx;
    int first_row;
    int num_rows;
    int first_position;
  };

  // The activations of a Linear() call in rows that a kernel can read without tails: copied, but
  // for floats that lie so already.
  struct StagedInput {
    const int8_t* codes = nullptr;
    const int32_t* block_sums = nullptr;
    const float* values = nullptr;
  };

  // Calls fn(token_idx, scratch) for every token, in parallel when there are enough of them.
  template <typename Fn>
  void ForTokens(int num_tokens, const Fn& fn);

  // Elements [column, column + count) of a row, as floats.
  void LoadRow(const ConstTensorView& x, int row, int column, int count, float* out) const;
  void StoreRow(const TensorView& out, int row, int column, int count, float* x) const;
  // Writes one token in the format of `out`; x is zero from K to a multiple of sixteen.
  void WriteLinearInput(float* x, int token_idx, const LinearInput& out) const;

  ThreadPool& pool() const { return WorkersOfThisThread(num_threads_); }

  StagedInput StageInput(const LinearInput& x, const cpu::CpuLinear& weights);
  struct TokenRange {
    int first = 0;
    int last = 0;
  };
  void LinearTile(const LinearArgs& args, const cpu::CpuLinear& weights, const StagedInput& input,
                  int tile_idx, TokenRange tokens, ThreadScratch& scratch) const;
  // A tile of float weights as f32, widened into `scratch` where it is f16.
  const float* FloatTile(const cpu::CpuLinear& weights, int tile_idx, ThreadScratch& scratch) const;

  void AppendHead(const RopeAppendArgs& args, const cpu::KvHeadLayout& layout, int sequence_idx,
                  int head_idx, ThreadScratch& scratch) const;

  void PlanAttention(const AttentionArgs& args);
  void AttendItem(const AttentionArgs& args, const cpu::KvHeadLayout& layout,
                  const AttentionItem& item, ThreadScratch& scratch) const;

  void SampleRow(const SampleArgs& args, int r, ThreadScratch& scratch) const;

  Device& device_;
  const cpu::KernelTable& kernels_;
  const std::string description_;
  const int num_threads_;
  std::vector<ThreadScratch> scratch_;  // One a thread.
  cpu::Scratch<int8_t> staged_codes_;
  cpu::Scratch<int32_t> staged_sums_;
  cpu::Scratch<float> staged_values_;
  std::vector<AttentionItem> attention_items_;
};

template <typename Fn>
void CpuOps::ForTokens(int num_tokens, const Fn& fn) {
  // A token's row takes about a microsecond: fewer than this are not worth waking a worker.
  constexpr int kTokensPerItem = 8;
  const int num_items = (num_tokens + kTokensPerItem - 1) / kTokensPerItem;
  pool().ParallelFor(num_items, [&](int item_idx, int thread_idx) {
    ThreadScratch& scratch = scratch_[static_cast<size_t>(thread_idx)];
    const int first = item_idx * kTokensPerItem;
    for (int t = first; t < first + kTokensPerItem && t < num_tokens; ++t) fn(t, scratch);
  });
}

}  // namespace comet
