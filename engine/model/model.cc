#include "engine/model/model.h"

#include <utility>

#include "engine/loader/checkpoint.h"
#include "engine/loader/float_source.h"
#include "engine/model/decode_paddings.h"
#include "engine/model/decoder_layer.h"
#include "engine/model/device_tensor.h"
#include "engine/model/pack_floats.h"
#include "engine/model/rope.h"
#include "engine/model/step_workspace.h"
#include "engine/model/synthetic_model.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// Everything of a decoder that is read, not computed.
struct ModelWeights {
  std::unique_ptr<PackedLinear> embedding;  // Null when tied: the LM head serves.
  std::vector<DecoderLayer> layers;
  DeviceTensor final_norm;
  std::unique_ptr<PackedLinear> lm_head;
  ActivationFormat lm_head_format;

  const PackedLinear* embedding_table() const {
    return embedding != nullptr ? embedding.get() : lm_head.get();
  }
};

class LlamaModel final : public Model {
 public:
  LlamaModel(Backend& backend, const ModelConfig& config, const Precision& precision,
             ModelWeights weights)
      : device_(*backend.device),
        ops_(*backend.ops),
        config_(config),
        precision_(precision),
        weights_(std::move(weights)) {}

  Status Allocate(const ModelLimits& limits);

  const ModelConfig& config() const override { return config_; }
  const Precision& precision() const override { return precision_; }
  ModelMemory memory() const override;
  void ReadSampledTokens(ConstTensorView sampled) override { sampled_ = sampled; }
  Status CaptureDecodeSteps() override;
  void ForgetDecodeSteps() override {
    paddings_.clear();
    decode_graphs_.clear();
  }
  Result<TensorView> Forward(const StepInput& step) override;

 private:
  // Issues the step that the workspace holds.
  Status Issue();
  Status IssueLogits();

  Device& device_;
  Ops& ops_;
  ModelConfig config_;
  Precision precision_;
  ModelWeights weights_;
  ModelLimits limits_;
  StepWorkspace workspace_;
  DeviceTensor logits_;  // [logits_rows_max, vocab_size] f32
  DeviceTensor cos_;
  DeviceTensor sin_;
  std::vector<DeviceTensor> kv_pages_;  // One a layer: [num_pages or one more, page_bytes] u8
  ConstTensorView sampled_;             // Where a negative token id is looked up.
  std::vector<StepPadding> paddings_;   // Of decode_graphs_.
  std::vector<std::unique_ptr<DeviceGraph>> decode_graphs_;
};

Status LlamaModel::Allocate(const ModelLimits& limits) {
  limits_ = limits;
  COMET_ASSIGN_OR_RETURN(
      workspace_,
      StepWorkspace::Create(device_, config_, precision_.activations,
                            {.step_tokens_max = limits.step_tokens_max,
                             .sequences_max = limits.sequences_max,
                             .logits_rows_max = limits.logits_rows_max,
                             .pages_per_sequence_max = limits.pages_per_sequence_max,
                             .attention_scratch_bytes = ops_.AttentionScratchBytes(
                                 limits.pages_per_sequence_max * kPageTokens, config_.head_dim)}));
  COMET_ASSIGN_OR_RETURN(
      logits_,
      DeviceTensor::Allocate(device_, DType::kF32, {limits.logits_rows_max, config_.vocab_size}));

  const int num_positions = limits.pages_per_sequence_max * kPageTokens;
  COMET_ASSIGN_OR_RETURN(const RopeTables rope,
                         MakeRopeTables(config_.rope, config_.rotary_dim, num_positions));
  const TensorShape rope_shape{num_positions, config_.rotary_dim / 2};
  COMET_ASSIGN_OR_RETURN(cos_,
                         DeviceTensor::Upload(device_, {rope.cos.data(), DType::kF32, rope_shape}));
  COMET_ASSIGN_OR_RETURN(sin_,
                         DeviceTensor::Upload(device_, {rope.sin.data(), DType::kF32, rope_shape}));

  // One page more than the pool knows is where the padding of captured steps writes.
  const int num_pages = limits.num_pages + (device_.is_asynchronous() ? 1 : 0);
  kv_pages_.reserve(weights_.layers.size());
  for (const DecoderLayer& layer : weights_.layers) {
    const int64_t page_bytes =
        ops_.KvPageBytes(layer.kv_format(), config_.num_kv_heads, config_.head_dim);
    COMET_ASSIGN_OR_RETURN(
        DeviceTensor pages,
        DeviceTensor::Allocate(device_, DType::kU8, {num_pages, static_cast<int>(page_bytes)}));
    kv_pages_.push_back(std::move(pages));
  }
  return Status::Ok();
}

ModelMemory LlamaModel::memory() const {
  ModelMemory memory;
  memory.weights_bytes = weights_.lm_head->num_bytes() + weights_.final_norm.num_bytes();
  if (weights_.embedding != nullptr) memory.weights_bytes += weights_.embedding->num_bytes();
  for (const DecoderLayer& layer : weights_.layers) {
    memory.weights_bytes += layer.num_bytes();
    memory.kv_page_bytes +=
        ops_.KvPageBytes(layer.kv_format(), config_.num_kv_heads, config_.head_dim);
  }
  memory.activations_bytes =
      workspace_.num_bytes() + logits_.num_bytes() + cos_.num_bytes() + sin_.num_bytes();
  return memory;
}

// Every size is issued once as it is, with the longest context, where every kernel takes part: what
// a kernel's first launch loads cannot be loaded during a capture.
Status LlamaModel::CaptureDecodeSteps() {
  ForgetDecodeSteps();
  std::vector<StepPadding> paddings = DecodePaddings(limits_, limits_.num_pages);
  decode_graphs_.resize(paddings.size());
  const int no_queries[] = {0};
  int num_issued_last = 0;
  for (size_t i = paddings.size(); i-- > 0;) {
    const StepPadding& padding = paddings[i];
    COMET_RETURN_IF_ERROR(workspace_.Begin({.token_ids = {},
                                            .query_start = no_queries,
                                            .context_length = {},
                                            .page_table = {},
                                            .logits_rows = {}},
                                           padding));
    if (padding.num_sequences != num_issued_last) COMET_RETURN_IF_ERROR(Issue());
    num_issued_last = padding.num_sequences;
    COMET_ASSIGN_OR_RETURN(decode_graphs_[i], device_.Capture([this] { return Issue(); }));
  }
  paddings_ = std::move(paddings);
  return device_.Synchronize();
}

Result<TensorView> LlamaModel::Forward(const StepInput& step) {
  const int graph_idx = FindPadding(paddings_, step);
  if (graph_idx >= 0) {
    const size_t i = static_cast<size_t>(graph_idx);
    COMET_RETURN_IF_ERROR(workspace_.Begin(step, paddings_[i]));
    COMET_RETURN_IF_ERROR(decode_graphs_[i]->Launch());
  } else {
    COMET_RETURN_IF_ERROR(workspace_.Begin(step));
    COMET_RETURN_IF_ERROR(Issue());
  }
  return logits_.view().Rows(0, static_cast<int>(step.logits_rows.size()));
}

Status LlamaModel::Issue() {
  COMET_RETURN_IF_ERROR(ops_.Embedding({.out = workspace_.hidden(),
                                        .ids = workspace_.token_ids(),
                                        .sampled = sampled_,
                                        .table = weights_.embedding_table()}));
  for (size_t i = 0; i < weights_.layers.size(); ++i) {
    const DecoderLayer& layer = weights_.layers[i];
    COMET_RETURN_IF_ERROR(layer.Forward(ops_, config_,
                                        {.hidden = workspace_.hidden(),
                                         .workspace = workspace_,
                                         .cache = {.pages = kv_pages_[i].view(),
                                                   .format = layer.kv_format(),
                                                   .num_kv_heads = config_.num_kv_heads,
                                                   .head_dim = config_.head_dim},
                                         .cos = cos_.view(),
                                         .sin = sin_.view()}));
  }
  return IssueLogits();
}

Status LlamaModel::IssueLogits() {
  const int num_rows = workspace_.logits_rows().dim(0);
  const LinearInput input =
      workspace_.Input(weights_.lm_head_format, config_.hidden_size, num_rows);
  COMET_RETURN_IF_ERROR(ops_.RmsNorm({.out = input,
                                      .x = workspace_.hidden(),
                                      .weight = weights_.final_norm.view(),
                                      .rows = workspace_.logits_rows(),
                                      .epsilon = config_.rms_norm_epsilon}));
  return ops_.Linear(
      {.y = logits_.view().Rows(0, num_rows), .x = input, .weights = weights_.lm_head.get()});
}

Result<ModelWeights> LoadWeights(Backend& backend, const Checkpoint& checkpoint,
                                 const Precision& precision) {
  const ModelConfig& config = checkpoint.config();
  ModelWeights weights;
  for (int i = 0; i < config.num_layers; ++i) {
    COMET_ASSIGN_OR_RETURN(DecoderLayer layer,
                           DecoderLayer::Make(backend, config, checkpoint.layer(i), precision));
    weights.layers.push_back(std::move(layer));
  }
  COMET_ASSIGN_OR_RETURN(weights.final_norm,
                         DeviceTensor::Upload(*backend.device, checkpoint.final_norm()));
  if (precision.activations == ActivationMode::kFloat) {
    COMET_ASSIGN_OR_RETURN(weights.lm_head,
                           PackFloats(*backend.ops, Dequantize(checkpoint.lm_head()),
                                      config.vocab_size, config.hidden_size));
  } else {
    weights.lm_head_format.mode = ActivationMode::kInt8;
    COMET_ASSIGN_OR_RETURN(weights.lm_head, backend.ops->PackLinear(checkpoint.lm_head()));
  }
  if (checkpoint.embedding().is_present()) {
    COMET_ASSIGN_OR_RETURN(weights.embedding,
                           backend.ops->PackLinear(FloatWeights{checkpoint.embedding()}));
  }
  return weights;
}

Result<ModelWeights> LoadWeights(Backend& backend, FloatSource& source,
                                 const Precision& precision) {
  const ModelConfig& config = source.config();
  ModelWeights weights;
  for (int i = 0; i < config.num_layers; ++i) {
    COMET_ASSIGN_OR_RETURN(const FloatLayer values, source.ReadLayer(i));
    COMET_ASSIGN_OR_RETURN(DecoderLayer layer,
                           DecoderLayer::Make(backend, config, values, precision));
    weights.layers.push_back(std::move(layer));
  }
  COMET_ASSIGN_OR_RETURN(const std::vector<float> final_norm, source.ReadFinalNorm());
  COMET_ASSIGN_OR_RETURN(
      weights.final_norm,
      DeviceTensor::Upload(*backend.device,
                           {final_norm.data(), DType::kF32, {config.hidden_size}}));
  COMET_ASSIGN_OR_RETURN(const std::vector<float> embedding, source.ReadEmbedding());
  COMET_ASSIGN_OR_RETURN(
      std::unique_ptr<PackedLinear> table,
      PackFloats(*backend.ops, embedding, config.vocab_size, config.hidden_size));
  if (config.tied_embeddings) {
    weights.lm_head = std::move(table);
    return weights;
  }
  weights.embedding = std::move(table);
  COMET_ASSIGN_OR_RETURN(const std::vector<float> lm_head, source.ReadLmHead());
  COMET_ASSIGN_OR_RETURN(weights.lm_head,
                         PackFloats(*backend.ops, lm_head, config.vocab_size, config.hidden_size));
  return weights;
}

Result<ModelWeights> LoadWeights(Backend& backend, const SyntheticModel& synthetic,
                                 const Precision& precision) {
  const ModelConfig& config = synthetic.config;
  ModelWeights weights;
  for (int i = 0; i < config.num_layers; ++i) {
    COMET_ASSIGN_OR_RETURN(DecoderLayer layer,
                           DecoderLayer::Make(backend, synthetic, i, precision));
    weights.layers.push_back(std::move(layer));
  }
  const std::vector<float> ones(static_cast<size_t>(config.hidden_size), 1.0f);
  COMET_ASSIGN_OR_RETURN(
      weights.final_norm,
      DeviceTensor::Upload(*backend.device, {ones.data(), DType::kF32, {config.hidden_size}}));
  weights.lm_head_format.mode = ActivationMode::kInt8;
  COMET_ASSIGN_OR_RETURN(weights.lm_head, backend.ops->PackRandom(synthetic.LmHead()));
  if (!config.tied_embeddings) {
    COMET_ASSIGN_OR_RETURN(weights.embedding, backend.ops->PackRandom(synthetic.Embedding()));
  }
  return weights;
}

const ModelConfig& ConfigOf(const Checkpoint& source) { return source.config(); }
const ModelConfig& ConfigOf(FloatSource& source) { return source.config(); }
const ModelConfig& ConfigOf(const SyntheticModel& source) { return source.config; }

// One body for every kind of source: they differ in LoadWeights() only.
template <typename Source>
Result<std::unique_ptr<Model>> LoadModel(Backend& backend, Source& source,
                                         const Precision& precision, const ModelLimits& limits) {
  const ModelConfig& config = ConfigOf(source);
  COMET_RETURN_IF_ERROR(precision.Validate());
  COMET_RETURN_IF_ERROR(config.Validate());
  COMET_ASSIGN_OR_RETURN(ModelWeights weights, LoadWeights(backend, source, precision));
  auto model = std::make_unique<LlamaModel>(backend, config, precision, std::move(weights));
  COMET_RETURN_IF_ERROR(model->Allocate(limits));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace

Result<std::unique_ptr<Model>> Model::Load(Backend& backend, const Checkpoint& checkpoint,
                                           const Precision& precision, const ModelLimits& limits) {
  if (precision.weights != WeightMode::kComet) {
    return InvalidArgument(
        "model: weights are float, expected comet: the checkpoint holds 4-bit ones");
  }
  return LoadModel(backend, checkpoint, precision, limits);
}

Result<std::unique_ptr<Model>> Model::Load(Backend& backend, FloatSource& source,
                                           const Precision& precision, const ModelLimits& limits) {
  if (precision.weights != WeightMode::kFloat) {
    return InvalidArgument("model: weights are comet, expected float: the source is unquantised");
  }
  return LoadModel(backend, source, precision, limits);
}

Result<std::unique_ptr<Model>> Model::Load(Backend& backend, const SyntheticModel& synthetic,
                                           const Precision& precision, const ModelLimits& limits) {
  if (precision.weights != WeightMode::kComet || precision.activations == ActivationMode::kFloat) {
    return InvalidArgument(
        "model: weights or activations are float, expected 4-bit weights and codes: a synthetic "
        "model has no others");
  }
  return LoadModel(backend, synthetic, precision, limits);
}

}  // namespace comet
