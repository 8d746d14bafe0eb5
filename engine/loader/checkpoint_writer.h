#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/chat_template/named_templates.h"
#include "engine/loader/checkpoint_format.h"
#include "engine/loader/checkpoint_tensors.h"
#include "engine/loader/output_file.h"
#include "engine/loader/safetensors_writer.h"
#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/dtype.h"
#include "kernels/base/status.h"

namespace comet {

// One quantised linear layer, packed as W4axWeights describes; N outputs, K inputs.
struct QuantizedLinear {
  int num_outputs = 0;
  int num_inputs = 0;
  LinearPrecision precision;
  std::vector<uint8_t> codes;   // [N, K / 2]
  std::vector<int8_t> steps;    // [N, CeilDiv(K, 128)]
  std::vector<float> scale;     // [N]
  std::vector<int32_t> gather;  // [K]; empty for down_proj
  std::vector<float> bias;      // [N] or empty
};

struct QuantizedLayer {
  std::vector<float> input_norm;           // [hidden]
  std::vector<float> post_attention_norm;  // [hidden]
  QuantizedLinear qkv;
  QuantizedLinear o;
  QuantizedLinear gate_up;
  QuantizedLinear down;
  KvFormat kv;
  bool qk_hadamard = false;
  bool down_hadamard = false;  // See LayerPrecision.
};

// Bytes of all tensors of a checkpoint of that shape: its weights file but for the header.
int64_t CheckpointWeightsBytes(const ModelConfig& config, bool has_qkv_bias);

// Writes a comet checkpoint one layer at a time; the folder appears when Finish() succeeds and not
// otherwise. Destroyed before Seal(), it removes what it wrote. Each part is written exactly once,
// in any order. Confined to one thread.
class CheckpointWriter {
 public:
  // Errors: kFailedPrecondition when `folder` exists and `may_replace` is false; those of
  // OutputFile.
  static Result<std::unique_ptr<CheckpointWriter>> Create(const std::string& folder,
                                                          const ModelConfig& config,
                                                          bool has_qkv_bias, bool may_replace);

  Status WriteLayer(int layer_idx, const QuantizedLayer& layer);
  Status WriteFinalNorm(const std::vector<float>& weight);
  Status WriteLmHead(const std::vector<int8_t>& codes, const std::vector<float>& scale);
  Status WriteEmbedding(const std::vector<Half>& table);  // Untied models only.

  // Completes all but the accuracy report, once every part is written: the folder returned, still
  // under its temporary name, opens as a checkpoint, and stays even if it is never published.
  // `chat_templates` may be empty.
  Result<std::string> Seal(const Vocabulary& vocabulary,
                           const std::vector<NamedTemplate>& chat_templates);
  // Adds the report, the JSON text of accuracy.json, and gives the folder its name.
  Status Publish(std::string_view accuracy);
  // Both.
  Status Finish(const Vocabulary& vocabulary, const std::vector<NamedTemplate>& chat_templates,
                std::string_view accuracy);

 private:
  CheckpointWriter(std::unique_ptr<PartialFolder> folder,
                   std::unique_ptr<SafetensorsWriter> weights, CheckpointConfig config)
      : folder_(std::move(folder)), weights_(std::move(weights)), config_(std::move(config)) {}

  Status WriteLinear(const LinearTensors& tensors, const QuantizedLinear& linear);

  std::unique_ptr<PartialFolder> folder_;
  std::unique_ptr<SafetensorsWriter> weights_;
  CheckpointConfig config_;
};

}  // namespace comet
