#include "engine/model/model_config.h"

#include "engine/config/config_check.h"
#include "kernels/base/math.h"

namespace comet {
namespace {

// Above any published model. Exact sums of a linear layer of this many channels fit 31 bits, and
// 2 * ffn_size and qkv_size fit an int.
constexpr int kDimMax = 1 << 17;

}  // namespace

Status ModelConfig::Validate() const {
  ConfigCheck check("model");
  check.InRange("hidden_size", hidden_size, 2, kDimMax);
  check.InRange("num_layers", num_layers, 1, 1024);
  check.InRange("num_heads", num_heads, 1, 1024);
  check.InRange("num_kv_heads", num_kv_heads, 1, 1024);
  check.InRange("head_dim", head_dim, 2, 1024);
  check.InRange("ffn_size", ffn_size, 2, kDimMax);
  check.InRange("vocab_size", vocab_size, 1, 1 << 22);
  check.InRange("context_length_max", context_length_max, 1, 1 << 24);
  check.Require(hidden_size % 2 == 0, "hidden_size is odd");
  check.Require(ffn_size % 2 == 0, "ffn_size is odd");
  check.Require(head_dim % 2 == 0, "head_dim is odd");
  check.Require(rotary_dim >= 2 && rotary_dim <= head_dim && rotary_dim % 2 == 0,
                "rotary_dim is outside 2 to head_dim or odd");
  check.Require(num_kv_heads > 0 && num_heads % num_kv_heads == 0,
                "num_heads is no multiple of num_kv_heads");
  check.Require(rms_norm_epsilon > 0.0f && rms_norm_epsilon < 1.0f,
                "rms_norm_epsilon is outside (0, 1)");
  check.Require(rope.theta > 0.0, "rope.theta is not positive");
  check.Require(rope.factor > 0.0, "rope.factor is not positive");
  check.Require(bos_id < vocab_size, "bos_id is outside the vocabulary");
  for (const int id : eos_ids) {
    check.Require(id >= 0 && id < vocab_size, "an end-of-sequence id is outside the vocabulary");
  }
  return check.status();
}

}  // namespace comet
