#pragma once

#include <string>
#include <vector>

#include "kernels/base/status.h"

namespace comet {

// What a source may say, whatever its form; readers name their own keys by it. Above any published
// model. Exact sums of a linear layer of kModelDimMax channels fit 31 bits, and 2 * ffn_size and
// qkv_size fit an int.
inline constexpr int kModelDimMax = 1 << 17;
inline constexpr int kModelLayersMax = 1024;
inline constexpr int kModelHeadsMax = 1024;
inline constexpr int kHeadDimMax = 1024;
inline constexpr int kVocabSizeMax = 1 << 22;
inline constexpr int kModelContextMax = 1 << 24;
inline constexpr int kEosIdsMax = 64;

// Scaling of rotary frequencies, as config.json's rope_scaling / rope_parameters states it.
struct RopeConfig {
  std::string type = "default";  // default | linear | llama3 | yarn | divisors
  double theta = 10000.0;
  double factor = 1.0;
  double low_frequency_factor = 1.0;   // llama3
  double high_frequency_factor = 4.0;  // llama3
  int original_context_max = 8192;     // llama3, yarn
  double beta_fast = 32.0;             // yarn: turns within the original context from which, and
  double beta_slow = 1.0;              // up to which, a frequency is kept and divided.
  double attention_factor = 1.0;       // yarn: multiplies queries and keys.
  std::vector<float> divisors;         // divisors: of each rotary pair's frequency.
};

// Shape of a LLaMA-family decoder, in Hugging Face's terms.
struct ModelConfig {
  std::string name;  // What the source calls itself; shown to users.
  int hidden_size = 0;
  int num_layers = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;
  int ffn_size = 0;
  int vocab_size = 0;
  int context_length_max = 0;
  int sliding_window = 0;  // Positions a query reads, its own included; 0: all.
  float rms_norm_epsilon = 1e-5f;
  RopeConfig rope;
  bool tied_embeddings = false;
  int bos_id = -1;
  std::vector<int> eos_ids;

  int q_size() const { return num_heads * head_dim; }
  int kv_size() const { return num_kv_heads * head_dim; }
  int qkv_size() const { return q_size() + 2 * kv_size(); }

  // Every broken rule, one a line; the one gate that each source's reader and each user passes.
  Status Validate() const;
};

}  // namespace comet
