#include "engine/loader/gguf_source.h"

#include <algorithm>
#include <optional>
#include <set>
#include <span>

#include "engine/loader/chat_template_files.h"
#include "engine/loader/float_layer_reader.h"
#include "engine/loader/gguf_config.h"
#include "engine/loader/gguf_file.h"
#include "engine/loader/gguf_vocabulary.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// Open() checks the name, type and shape of every tensor; values are
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
  Status ReadRopeDivisors();
  Status CheckLayerTensors(int layer_idx, std::set<std::string, std::less<>>& known) const;
  Status CheckTensor(const std::string& name, std::initializer_list<int> dims,
                     std::set<std::string, std::less<>>& known) const;
  bool HasQkvBias(int layer_idx) const;
  Result<std::vector<float>> ReadTensor(const std::string& name) const;
  Status ReadInto(const std::string& name, std::span<float> out) const;
  void SplitQueryAndKeyPairs(int row_values, std::span<float> qkv) const;

  GgufFile file_;
  GgufConfig gguf_;
  ModelConfig& config_ = gguf_.model;
  Vocabulary vocabulary_;
  std::vector<NamedTemplate> chat_templates_;
};

constexpr std::string_view kRopeDivisors = "rope_freqs.weight";

LayerNames NamesOf(int layer_idx) {
  const std::string layer = StrCat("blk.", layer_idx, ".");
  return {.input_norm = layer + "attn_norm",
          .q = layer + "attn_q",
          .k = layer + "attn_k",
          .v = layer + "attn_v",
          .o = layer + "attn_output",
          .post_attention_norm = layer + "ffn_norm",
          .gate = layer + "ffn_gate",
          .up = layer + "ffn_up",
          .down = layer + "ffn_down"};
}

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
  COMET_ASSIGN_OR_RETURN(source->gguf_, ReadGgufConfig(source->file_));
  COMET_RETURN_IF_ERROR(source->CheckTensors());
  COMET_RETURN_IF_ERROR(source->ReadRopeDivisors());
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
  if (file_.FindTensor(kRopeDivisors) != nullptr) {
    COMET_RETURN_IF_ERROR(CheckTensor(std::string(kRopeDivisors), {config_.rotary_dim / 2}, known));
  }
  for (const GgufTensor& tensor : file_.tensors()) {
    if (!known.contains(tensor.name)) {
      return Unimplemented(StrCat(file_.path(), ": ", tensor.name, ": has no place in a ",
                                  gguf_.architecture, " decoder of ", config_.num_layers,
                                  " layers"));
    }
  }
  return Status::Ok();
}

Status GgufSource::CheckLayerTensors(int layer_idx,
                                     std::set<std::string, std::less<>>& known) const {
  const LayerNames names = NamesOf(layer_idx);
  const int hidden = config_.hidden_size;
  const int ffn = config_.ffn_size;
  const int q = config_.q_size();
  const int kv = config_.kv_size();
  COMET_RETURN_IF_ERROR(CheckTensor(names.input_norm + ".weight", {hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(names.q + ".weight", {q, hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(names.k + ".weight", {kv, hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(names.v + ".weight", {kv, hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(names.o + ".weight", {hidden, q}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(names.post_attention_norm + ".weight", {hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(names.gate + ".weight", {ffn, hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(names.up + ".weight", {ffn, hidden}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(names.down + ".weight", {hidden, ffn}, known));
  if (HasQkvBias(layer_idx) != HasQkvBias(0)) {
    return DataLoss(StrCat(file_.path(), ": ", names.q,
                           ".bias: ", HasQkvBias(layer_idx) ? "is there" : "is absent",
                           ", expected all layers alike"));
  }
  const bool needs_bias = gguf_.architecture == "qwen2";
  if (!needs_bias && !HasQkvBias(layer_idx)) return Status::Ok();
  COMET_RETURN_IF_ERROR(CheckTensor(names.q + ".bias", {q}, known));
  COMET_RETURN_IF_ERROR(CheckTensor(names.k + ".bias", {kv}, known));
  return CheckTensor(names.v + ".bias", {kv}, known);
}

// How the converter states LLaMA-3.1's scaling: what each pair's frequency is divided by.
Status GgufSource::ReadRopeDivisors() {
  if (file_.FindTensor(kRopeDivisors) == nullptr) return Status::Ok();
  if (config_.rope.type != "default") {
    return Unimplemented(StrCat(file_.path(), ": ", kRopeDivisors, ": is there beside scaling \"",
                                config_.rope.type, "\", expected one of the two"));
  }
  config_.rope.type = "divisors";
  COMET_ASSIGN_OR_RETURN(config_.rope.divisors, ReadTensor(std::string(kRopeDivisors)));
  const Status valid = config_.Validate();
  return valid.ok() ? valid : DataLoss(StrCat(file_.path(), ": ", valid.message()));
}

Status GgufSource::CheckTensor(const std::string& name, std::initializer_list<int> dims,
                               std::set<std::string, std::less<>>& known) const {
  const GgufTensor* tensor = file_.FindTensor(name);
  if (tensor == nullptr) {
    return DataLoss(StrCat(file_.path(), ": ", name, ": is absent, expected a tensor"));
  }
  const Status readable = CheckKnown(tensor->type);
  if (!readable.ok()) {
    return Unimplemented(StrCat(file_.path(), ": ", name, ": ", readable.message()));
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
  return file_.FindTensor(NamesOf(layer_idx).q + ".bias") != nullptr;
}

Result<FloatLayer> GgufSource::ReadLayer(int layer_idx) {
  COMET_CHECK(layer_idx >= 0 && layer_idx < config_.num_layers);
  COMET_ASSIGN_OR_RETURN(
      FloatLayer layer,
      ReadFloatLayer(config_, NamesOf(layer_idx), HasQkvBias(layer_idx),
                     [this](const std::string& name, std::string_view suffix,
                            std::span<float> out) { return ReadInto(StrCat(name, suffix), out); }));
  if (gguf_.has_rotary_pairs) {
    SplitQueryAndKeyPairs(config_.hidden_size, layer.qkv);
    if (!layer.qkv_bias.empty()) SplitQueryAndKeyPairs(1, layer.qkv_bias);
  }
  return layer;
}

void GgufSource::SplitQueryAndKeyPairs(int row_values, std::span<float> qkv) const {
  const size_t row_size = static_cast<size_t>(row_values);
  const size_t q_values = static_cast<size_t>(config_.q_size()) * row_size;
  const size_t kv_values = static_cast<size_t>(config_.kv_size()) * row_size;
  SplitRotaryPairs(config_.num_heads, config_.head_dim, config_.rotary_dim, row_values,
                   qkv.first(q_values));
  SplitRotaryPairs(config_.num_kv_heads, config_.head_dim, config_.rotary_dim, row_values,
                   qkv.subspan(q_values, kv_values));
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
  return CheckFinite(StrCat(file_.path(), ": ", name), out);
}

}  // namespace

Result<std::unique_ptr<FloatSource>> OpenGgufSource(const std::string& path) {
  return GgufSource::Open(path);
}

}  // namespace comet
