#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <span>

#include "engine/loader/float_source.h"
#include "engine/loader/gguf_config.h"
#include "engine/loader/gguf_file.h"
#include "engine/loader/gguf_vocabulary.h"
#include "engine/loader/text_files.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// A llama-architecture GGUF file. Open() checks the name and shape of every tensor; values are
// dequantised when asked for.
class GgufSource final : public FloatSource {
 public:
  static Result<std::unique_ptr<FloatSource>> Open(const std::string& path);

  const ModelConfig& config() const override { return config_; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  const std::vector<NamedTemplate>& chat_templates() const override { return chat_templates_; }

  Result<FloatLayer> ReadLayer(int layer_idx) override;
  Result<std::vector<float>> ReadEmbedding() override;
  Result<std::vector<float>> ReadFinalNorm() override;
  Result<std::vector<float>> ReadLmHead() override;

 private:
  explicit GgufSource(GgufFile file) : file_(std::move(file)) {}

  Status CheckTensors() const;
  Status CheckLayerTensors(int layer_idx, std::set<std::string, std::less<>>& known) const;
  Status CheckTensor(const std::string& name, std::initializer_list<int> dims,
                     std::set<std::string, std::less<>>& known) const;
  bool HasQkvBias(int layer_idx) const;
  Result<std::vector<float>> ReadTensor(const std::string& name) const;
  Status ReadInto(const std::string& name, std::span<float> out) const;
  Status ReadQkv(const std::string& prefix, std::string_view suffix, int row_values,
                 std::vector<float>& qkv) const;

  GgufFile file_;
  ModelConfig config_;
  Vocabulary vocabulary_;
  std::vector<NamedTemplate> chat_templates_;
};

std::string LayerPrefix(int layer_idx) { return StrCat("blk.", layer_idx, "."); }

// Rows of one head from interleaved rotary pairs (2i, 2i + 1) to split halves (i, i + D/2), where D
// is the number of rotated rows; rows past it stay. GGUF stores the llama architecture's Q and K in
// the first order.
void SplitRotaryPairs(int num_heads, int head_dim, int rotary_dim, int row_values,
                      std::span<float> rows) {
  const size_t row_size = static_cast<size_t>(row_values);
  std::vector<float> original(static_cast<size_t>(rotary_dim) * row_size);
  for (int head = 0; head < num_heads; ++head) {
    float* first =
        rows.data() + static_cast<size_t>(head) * static_cast<size_t>(head_dim) * row_size;
    std::copy_n(first, original.size(), original.begin());
    for (int i = 0; i < rotary_dim; ++i) {
      const int from = i < rotary_dim / 2 ? 2 * i : 2 * (i - rotary_dim / 2) + 1;
      std::copy_n(original.data() + static_cast<size_t>(from) * row_size, row_size,
                  first + static_cast<size_t>(i) * row_size);
    }
  }
}

Result<std::unique_ptr<FloatSource>> GgufSource::Open(const std::string& path) {
  COMET_ASSIGN_OR_RETURN(GgufFile file, GgufFile::Open(path));
  std::unique_ptr<GgufSource> source(new GgufSource(std::move(file)));
  COMET_ASSIGN_OR_RETURN(source->config_, ReadGgufConfig(source->file_));
  COMET_RETURN_IF_ERROR(source->CheckTensors());
  COMET_ASSIGN_OR_RETURN(source->vocabulary_, ReadVocabulary(source->file_));
  source->config_.bos_id = source->vocabulary_.bos_id;
  const size_t vocab_size = static_cast<size_t>(source->config_.vocab_size);
  if (source->vocabulary_.pieces.size() != vocab_size) {
    return DataLoss(StrCat(path, ": tokenizer.ggml.tokens: has ", source->vocabulary_.pieces.size(),
                           " entries, expected one a row of token_embd.weight, ", vocab_size));
  }
  COMET_ASSIGN_OR_RETURN(source->chat_templates_, ReadGgufTemplates(source->file_));
  return std::unique_ptr<FloatSource>(std::move(source));
}

// A tensor without a place would be computed without, so it is refused by name.
Status GgufSource::CheckTensors() const {
  std::set<std::string, std::less<>> known;
  COMET_RETURN_IF_ERROR(
      CheckTensor("token_embd.weight", {config_.vocab_size, config_.hidden_size}, known));
  COMET_RETURN_IF_ERROR(CheckTensor("output_norm.weight", {config_.hidden_size}, known));
  if (!config_.tied_embeddings) {
    COMET_RETURN_IF_ERROR(
        CheckTensor("output.weight", {config_.vocab_size, config_.hidden_size}, known));
  }
  for (int layer_idx = 0; layer_idx < config_.num_layers; ++layer_idx) {
    COMET_RETURN_IF_ERROR(CheckLayerTensors(layer_idx, known));
  }
  for (const GgufTensor& tensor : file_.tensors()) {
    if (!known.contains(tensor.name)) {
      return Unimplemented(
          StrCat(file_.path(), ": ", tensor.name, ": has no place in a llama decoder"));
    }
  }
  return Status::Ok();
}

Status GgufSource::CheckLayerTensors(int layer_idx,
                                     std::set<std::string, std::less<>>& known) const {
  const std::string prefix = LayerPrefix(layer_idx);
  const int hidden = config_.hidden_size;
  const int ffn = config_.ffn_size;
  const int q = config_.q_size();
  const int kv = config_.kv_size();
  COMET_RETURN_IF_ERROR(CheckTensor(prefix + "attn_norm.weight", {hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(prefix + "attn_q.weight", {q, hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(prefix + "attn_k.weight", {kv, hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(prefix + "attn_v.weight", {kv, hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(prefix + "attn_output.weight", {hidden, q}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(prefix + "ffn_norm.weight", {hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(prefix + "ffn_gate.weight", {ffn, hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(prefix + "ffn_up.weight", {ffn, hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(prefix + "ffn_down.weight", {hidden, ffn}, known));
  if (HasQkvBias(layer_idx) != HasQkvBias(0)) {
    return DataLoss(StrCat(file_.path(), ": ", prefix,
                           "attn_q.bias: ", HasQkvBias(layer_idx) ? "is there" : "is absent",
                           ", expected all layers alike"));
  }
  if (!HasQkvBias(layer_idx)) return Status::Ok();
  COMET_RETURN_IF_ERROR(CheckTensor(prefix + "attn_q.bias", {q}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(prefix + "attn_k.bias", {kv}, known));
  return CheckTensor(prefix + "attn_v.bias", {kv}, known);
}

Status GgufSource::CheckTensor(const std::string& name, std::initializer_list<int> dims,
                               std::set<std::string, std::less<>>& known) const {
  const GgufTensor* tensor = file_.FindTensor(name);
  if (tensor == nullptr) {
    return DataLoss(StrCat(file_.path(), ": ", name, ": is absent, expected a tensor"));
  }
  const auto text = [](std::span<const int> shape) {
    std::string out = "[";
    for (const int dim : shape) out += StrCat(out.size() > 1 ? ", " : "", dim);
    return out + "]";
  };
  if (!std::ranges::equal(tensor->dims, dims)) {
    return DataLoss(StrCat(file_.path(), ": ", name, ": has shape ", text(tensor->dims),
                           ", expected ", text(dims)));
  }
  known.insert(name);
  return Status::Ok();
}

bool GgufSource::HasQkvBias(int layer_idx) const {
  return file_.FindTensor(LayerPrefix(layer_idx) + "attn_q.bias") != nullptr;
}

Result<FloatLayer> GgufSource::ReadLayer(int layer_idx) {
  COMET_CHECK(layer_idx >= 0 && layer_idx < config_.num_layers);
  const std::string prefix = LayerPrefix(layer_idx);
  FloatLayer layer;
  COMET_ASSIGN_OR_RETURN(layer.input_norm, ReadTensor(prefix + "attn_norm.weight"));
  COMET_RETURN_IF_ERROR(ReadQkv(prefix, ".weight", config_.hidden_size, layer.qkv));
  if (HasQkvBias(layer_idx)) COMET_RETURN_IF_ERROR(ReadQkv(prefix, ".bias", 1, layer.qkv_bias));
  COMET_ASSIGN_OR_RETURN(layer.o, ReadTensor(prefix + "attn_output.weight"));
  COMET_ASSIGN_OR_RETURN(layer.post_attention_norm, ReadTensor(prefix + "ffn_norm.weight"));
  const size_t half =
      static_cast<size_t>(config_.ffn_size) * static_cast<size_t>(config_.hidden_size);
  layer.gate_up.resize(2 * half);
  const std::span<float> gate_up(layer.gate_up);
  COMET_RETURN_IF_ERROR(ReadInto(prefix + "ffn_gate.weight", gate_up.first(half)));
  COMET_RETURN_IF_ERROR(ReadInto(prefix + "ffn_up.weight", gate_up.last(half)));
  COMET_ASSIGN_OR_RETURN(layer.down, ReadTensor(prefix + "ffn_down.weight"));
  return layer;
}

Status GgufSource::ReadQkv(const std::string& prefix, std::string_view suffix, int row_values,
                           std::vector<float>& qkv) const {
  const size_t row_size = static_cast<size_t>(row_values);
  const size_t q_values = static_cast<size_t>(config_.q_size()) * row_size;
  const size_t kv_values = static_cast<size_t>(config_.kv_size()) * row_size;
  qkv.resize(q_values + 2 * kv_values);
  const std::span<float> q = std::span(qkv).first(q_values);
  const std::span<float> k = std::span(qkv).subspan(q_values, kv_values);
  const std::span<float> v = std::span(qkv).last(kv_values);
  COMET_RETURN_IF_ERROR(ReadInto(StrCat(prefix, "attn_q", suffix), q));
  COMET_RETURN_IF_ERROR(ReadInto(StrCat(prefix, "attn_k", suffix), k));
  COMET_RETURN_IF_ERROR(ReadInto(StrCat(prefix, "attn_v", suffix), v));
  SplitRotaryPairs(config_.num_heads, config_.head_dim, config_.rotary_dim, row_values, q);
  SplitRotaryPairs(config_.num_kv_heads, config_.head_dim, config_.rotary_dim, row_values, k);
  return Status::Ok();
}

Result<std::vector<float>> GgufSource::ReadEmbedding() { return ReadTensor("token_embd.weight"); }

Result<std::vector<float>> GgufSource::ReadFinalNorm() { return ReadTensor("output_norm.weight"); }

Result<std::vector<float>> GgufSource::ReadLmHead() {
  if (config_.tied_embeddings) {
    return NotFound(
        StrCat(file_.path(), ": output.weight: is absent, the embedding is the LM head"));
  }
  return ReadTensor("output.weight");
}

Result<std::vector<float>> GgufSource::ReadTensor(const std::string& name) const {
  std::vector<float> values(static_cast<size_t>(file_.FindTensor(name)->num_values()));
  COMET_RETURN_IF_ERROR(ReadInto(name, values));
  return values;
}

// CheckTensors() has found the tensor and its shape.
Status GgufSource::ReadInto(const std::string& name, std::span<float> out) const {
  const GgufTensor& tensor = *file_.FindTensor(name);
  Dequantize(tensor.type, tensor.data, out);
  for (size_t i = 0; i < out.size(); ++i) {
    if (!std::isfinite(out[i])) {
      return DataLoss(StrCat(file_.path(), ": ", name, ": value ", i, " is ", out[i],
                             ", expected a finite number"));
    }
  }
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<FloatSource>> FloatSource::Open(const std::string& path) {
  return GgufSource::Open(path);
}

}  // namespace comet
