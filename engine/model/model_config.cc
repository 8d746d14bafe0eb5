#include "engine/model/model_config.h"

#include <cstdint>

#include "engine/config/config_check.h"

namespace comet {
namespace {

void CheckYarn(const RopeConfig& rope, ConfigCheck& check) {
  check.InRange("rope.beta_fast", rope.beta_fast, 1e-6, 1e6);
  check.InRange("rope.beta_slow", rope.beta_slow, 1e-6, 1e6);
  check.InRange("rope.attention_factor", rope.attention_factor, 1e-3, 1e3);
  check.InRange("rope.original_context_max", rope.original_context_max, 1, kModelContextMax);
  check.Require(rope.theta > 1.0, "rope.theta is not above 1, as yarn needs");
}

void CheckDivisors(const RopeConfig& rope, int rotary_dim, ConfigCheck& check) {
  check.Require(rope.divisors.size() == static_cast<size_t>(rotary_dim / 2),
                "rope.divisors has not one value for each pair of rotary_dim");
  for (const float divisor : rope.divisors) {
    check.Require(divisor >= 1e-6f && divisor <= 1e6f, "rope.divisors is outside 1e-6 to 1e6");
  }
}

void CheckRope(const RopeConfig& rope, int rotary_dim, ConfigCheck& check) {
  const bool is_llama3 = rope.type == "llama3";
  check.Require(rope.type == "default" || rope.type == "linear" || rope.type == "yarn" ||
                    rope.type == "divisors" || is_llama3,
                "rope.type is unknown, expected default, linear, llama3, yarn or divisors");
  check.InRange("rope.theta", rope.theta, 1e-3, 1e12);
  check.InRange("rope.factor", rope.factor, 1e-6, 1e6);
  if (rope.type == "yarn") CheckYarn(rope, check);
  if (rope.type == "divisors") CheckDivisors(rope, rotary_dim, check);
  if (!is_llama3) return;
  check.InRange("rope.low_frequency_factor", rope.low_frequency_factor, 1e-6, 1e6);
  check.InRange("rope.high_frequency_factor", rope.high_frequency_factor, 1e-6, 1e6);
  check.Require(rope.low_frequency_factor < rope.high_frequency_factor,
                "rope.low_frequency_factor is not below rope.high_frequency_factor");
  check.InRange("rope.original_context_max", rope.original_context_max, 1, kModelContextMax);
}

}  // namespace

Status ModelConfig::Validate() const {
  ConfigCheck check("model");
  check.InRange("hidden_size", hidden_size, 2, kModelDimMax);
  check.InRange("num_layers", num_layers, 1, kModelLayersMax);
  check.InRange("num_heads", num_heads, 1, kModelHeadsMax);
  check.InRange("num_kv_heads", num_kv_heads, 1, kModelHeadsMax);
  check.InRange("head_dim", head_dim, 2, kHeadDimMax);
  check.InRange("ffn_size", ffn_size, 2, kModelDimMax);
  check.InRange("vocab_size", vocab_size, 1, kVocabSizeMax);
  check.InRange("context_length_max", context_length_max, 1, kModelContextMax);
  check.InRange("sliding_window", sliding_window, 0, kModelContextMax);
  check.Require(hidden_size % 2 == 0, "hidden_size is odd");
  check.Require(ffn_size % 2 == 0, "ffn_size is odd");
  check.Require(head_dim % 2 == 0, "head_dim is odd");
  check.Require(rotary_dim >= 2 && rotary_dim <= head_dim && rotary_dim % 2 == 0,
                "rotary_dim is outside 2 to head_dim or odd");
  check.Require(num_kv_heads > 0 && num_heads % num_kv_heads == 0,
                "num_heads is no multiple of num_kv_heads");
  check.Require(rms_norm_epsilon > 0.0f && rms_norm_epsilon < 1.0f,
                "rms_norm_epsilon is outside (0, 1)");
  check.Require(int64_t{num_heads} * head_dim <= kModelDimMax,
                "num_heads times head_dim is above the largest hidden_size");
  CheckRope(rope, rotary_dim, check);
  check.Require(bos_id >= -1 && bos_id < vocab_size, "bos_id is outside the vocabulary");
  check.Require(eos_ids.size() <= kEosIdsMax, "there are more than 64 end-of-sequence ids");
  for (const int id : eos_ids) {
    check.Require(id >= 0 && id < vocab_size, "an end-of-sequence id is outside the vocabulary");
  }
  return check.status();
}

}  // namespace comet
