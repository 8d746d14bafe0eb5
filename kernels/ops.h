#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "kernels/base/status.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/gather.h"
#include "kernels/ops/kv_cache_view.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/norm.h"
#include "kernels/ops/random_linear.h"
#include "kernels/ops/rope_append.h"
#include "kernels/ops/sample.h"
#include "kernels/ops/silu_mul.h"

namespace comet {

// Every operation of a LLaMA on one device; the contracts are in kernels/ops/. Each call validates
// its arguments, returns on empty ones, and issues work on the device's stream without allocating
// or waiting. An op the back end has no kernel for is kUnimplemented naming op, shape and device.
// Confined to the step thread.
class Ops {
 public:
  virtual ~Ops() = default;

  // Copies host weights into the back end's own layout. May run for long and allocate; called at
  // load.
  virtual Result<std::unique_ptr<PackedLinear>> PackLinear(const W4axWeights& weights) = 0;
  virtual Result<std::unique_ptr<PackedLinear>> PackLinear(const Int8Weights& weights) = 0;
  virtual Result<std::unique_ptr<PackedLinear>> PackLinear(const FloatWeights& weights) = 0;
  // The same of random weights, where a back end can without their passing through the host.
  virtual Result<std::unique_ptr<PackedLinear>> PackRandom(const RandomLinear& linear);

  // Bytes of one page (kPageTokens tokens of every KV head, K and V) of one layer.
  virtual int64_t KvPageBytes(const KvFormat& format, int num_kv_heads, int head_dim) const = 0;
  // Bytes of AttentionArgs::scratch that let Attention() use the whole device for few sequences.
  virtual int64_t AttentionScratchBytes(int context_length_max, int head_dim) const = 0;
  // Whether the device multiplies INT4 codes: kMixed then is its native mode, and inputs of W4ax
  // layers have to be packed (ActivationFormat::packs_int4). Elsewhere packed codes are
  // kUnimplemented.
  virtual bool HasInt4Products() const { return false; }
  // Whether Sample() needs SampleArgs::scratch.
  virtual bool UsesSampleScratch() const = 0;
  // "linear: avx512vnni, attention: avx512vnni, ...", in the back end's words; printed at start.
  virtual std::string_view KernelDescription() const = 0;

  virtual Status Embedding(const EmbeddingArgs& args) = 0;
  virtual Status RmsNorm(const RmsNormArgs& args) = 0;
  virtual Status Gather(const GatherArgs& args) = 0;
  virtual Status SiluMul(const SiluMulArgs& args) = 0;
  virtual Status Linear(const LinearArgs& args) = 0;
  virtual Status RopeAppend(const RopeAppendArgs& args) = 0;
  virtual Status Attention(const AttentionArgs& args) = 0;
  virtual Status Sample(const SampleArgs& args) = 0;
};

}  // namespace comet
