#pragma once

#include <cstdint>
#include <ostream>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/ops.h"

namespace comet {

// A sequence of a step: its last `num_queries` tokens are the step's.
struct AttentionSequence {
  int context_length = 1;
  int num_queries = 1;
};

struct LargeAttentionCase {
  std::vector<AttentionSequence> sequences;
  KvFormat format;
  int num_heads = 32;
  int num_kv_heads = 8;
  int head_dim = 128;
  int window = 0;
};

std::ostream& operator<<(std::ostream& out, const LargeAttentionCase& c);

// One batch over a cache of random keys and values in device memory, filled by rope_append, of any
// size that a GPU attends to in a test's time.
class CudaAttentionRig {
 public:
  CudaAttentionRig(CudaDevice& device, Ops& ops, const LargeAttentionCase& c, uint64_t seed);

  // Attention of the sequences [first, end), whose queries stay what they are in the whole batch;
  // of each the last `num_queries` where it is not 0. `out` is poisoned before.
  AttentionArgs Args(int first, int end, int num_queries = 0);
  AttentionArgs Args() { return Args(0, num_sequences()); }
  // What the last Args() had computed, row by row.
  std::vector<uint16_t> DownloadOut();

  int num_sequences() const { return static_cast<int>(case_.sequences.size()); }
  int num_q_channels() const { return case_.num_heads * case_.head_dim; }
  // Row of the whole batch where a sequence begins.
  int first_row(int sequence_idx) const { return starts_[static_cast<size_t>(sequence_idx)]; }

 private:
  KvCacheView cache() const;
  void FillCache(Ops& ops);

  CudaDevice& device_;
  const LargeAttentionCase case_;
  std::vector<int> starts_;
  int pages_max_ = 0;
  int num_pages_ = 0;
  int64_t page_bytes_ = 0;
  int num_rows_out_ = 0;
  DeviceBuffer pages_;
  DeviceBuffer page_table_;
  DeviceBuffer q_;
  DeviceBuffer out_;
  DeviceBuffer scratch_;
  DeviceBuffer query_start_;
  DeviceBuffer context_length_;
};

}  // namespace comet
