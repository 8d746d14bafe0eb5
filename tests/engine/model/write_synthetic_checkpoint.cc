// Writes a comet checkpoint of random weights in a published shape, to measure loading with:
//   comet_write_synthetic_checkpoint configs/models/llama-3-8b.json FOLDER
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "engine/loader/checkpoint_writer.h"
#include "engine/model/synthetic_model.h"
#include "engine/quantizer/model_shape.h"

namespace comet {
namespace {

QuantizedLinear MakeLinear(const SyntheticModel& model, int layer_idx, LinearKind kind) {
  const RandomLinear linear = model.Linear(layer_idx, kind);
  HostRandomLinear made = MakeHostRandomLinear(linear);
  return {.num_outputs = linear.num_outputs,
          .num_inputs = linear.num_inputs,
          .precision = {.num_int4_channels = linear.num_int4_channels},
          .codes = std::move(made.codes),
          .steps = std::move(made.steps),
          .scale = std::move(made.scale),
          .gather = model.GatherOrder(layer_idx, kind),
          .bias = kind == LinearKind::kQkv ? model.QkvBias(layer_idx) : std::vector<float>()};
}

Status Write(const std::string& shape_path, const std::string& folder) {
  COMET_ASSIGN_OR_RETURN(ModelShape shape, ReadModelShape(shape_path));
  const SyntheticModel model{.config = std::move(shape.config), .has_qkv_bias = shape.has_qkv_bias};
  const ModelConfig& config = model.config;
  COMET_ASSIGN_OR_RETURN(
      const std::unique_ptr<CheckpointWriter> writer,
      CheckpointWriter::Create(folder, config, model.has_qkv_bias, /*may_replace=*/true));
  const std::vector<float> ones(static_cast<size_t>(config.hidden_size), 1.0f);
  for (int i = 0; i < config.num_layers; ++i) {
    COMET_RETURN_IF_ERROR(
        writer->WriteLayer(i, {.input_norm = ones,
                               .post_attention_norm = ones,
                               .qkv = MakeLinear(model, i, LinearKind::kQkv),
                               .o = MakeLinear(model, i, LinearKind::kO),
                               .gate_up = MakeLinear(model, i, LinearKind::kGateUp),
                               .down = MakeLinear(model, i, LinearKind::kDown),
                               .kv = model.kv,
                               .qk_hadamard = true}));
  }
  COMET_RETURN_IF_ERROR(writer->WriteFinalNorm(ones));
  const HostRandomLinear head = MakeHostRandomLinear(model.LmHead());
  COMET_RETURN_IF_ERROR(
      writer->WriteLmHead(std::vector<int8_t>(head.codes.begin(), head.codes.end()), head.scale));
  if (!config.tied_embeddings) {
    COMET_RETURN_IF_ERROR(writer->WriteEmbedding(MakeHostRandomLinear(model.Embedding()).values));
  }
  return writer->Finish(model.MakeVocabulary(), {}, "{}\n");
}

}  // namespace
}  // namespace comet

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s SHAPE.json FOLDER\n", argv[0]);
    return 2;
  }
  const comet::Status status = comet::Write(argv[1], argv[2]);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}
