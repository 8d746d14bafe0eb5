#pragma once

#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/host_tensor.h"

namespace comet {

struct KvCase {
  KvFormat format;
  int num_heads = 3;
  int num_kv_heads = 1;
  int head_dim = 64;
  int rotary_dim = 64;
  bool hadamard = false;
  DType dtype = DType::kF32;
  int row_padding = 0;
  int window = 0;
};

std::ostream& operator<<(std::ostream& out, const KvCase& c);

// Tokens [begin, end) of one sequence in one step.
struct KvChunk {
  int sequence_idx = 0;
  int begin = 0;
  int end = 0;
};

// Some sequences with random queries, keys and values, and one back end's cache of them. Equal
// cases and lengths have equal contents, whatever the back end and the steps.
class KvRig {
 public:
  KvRig(Ops& ops, const KvCase& c, const std::vector<int>& sequence_lengths);

  // Appends the chunks' tokens, which must follow what each sequence has, and, when `attends`,
  // computes their outputs.
  void Step(const std::vector<KvChunk>& chunks, bool attends = true);

  // Whether Attention() gets scratch memory; it does unless told.
  void set_has_scratch(bool has_scratch) { has_scratch_ = has_scratch; }

  // What Step() computed, [length, num_heads * head_dim].
  const HostTensor& queries(int sequence_idx) const { return At(sequence_idx).queries; }
  const HostTensor& outputs(int sequence_idx) const { return At(sequence_idx).outputs; }
  // What the back end made of the tokens, and the page of one of them.
  KvCacheView cache();
  int page_id(int sequence_idx, int position) const {
    return At(sequence_idx).pages[static_cast<size_t>(position / kPageTokens)];
  }
  // Raw q | k | v of a sequence, before its tokens are appended.
  HostTensor& qkv(int sequence_idx) { return sequences_[static_cast<size_t>(sequence_idx)].qkv; }

 private:
  struct Sequence {
    HostTensor qkv;
    HostTensor queries;
    HostTensor outputs;
    std::vector<int> pages;
  };

  // What a step's ops are told of its sequences.
  struct Batch {
    HostTensor query_start;
    HostTensor context_length;
    HostTensor page_table;
    BatchView view;
  };

  const Sequence& At(int sequence_idx) const {
    return sequences_[static_cast<size_t>(sequence_idx)];
  }
  Batch MakeBatch(const std::vector<KvChunk>& chunks) const;
  // Calls fn(sequence, position, row) for every token of the step.
  template <typename Fn>
  void ForTokens(const std::vector<KvChunk>& chunks, const Fn& fn);
  // `q` gets the rotated queries.
  void Append(const std::vector<KvChunk>& chunks, const BatchView& batch, HostTensor& q);
  void Attend(const std::vector<KvChunk>& chunks, const BatchView& batch, const HostTensor& q);

  Ops& ops_;
  const KvCase case_;
  std::vector<Sequence> sequences_;
  HostTensor pages_;
  HostTensor cos_;
  HostTensor sin_;
  int num_pages_max_ = 0;
  bool has_scratch_ = true;
};

}  // namespace comet
