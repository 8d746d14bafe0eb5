#include "engine/quantizer/memory_estimate.h"

#include <algorithm>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int64_t kFloatBytes = 4;
constexpr int64_t kFixedBytes = int64_t{32} << 20;  // Program, tokenizer, calibration text.
// Matrices of one linear layer's shape that a stage holds beside the source's: the target, its
// change and the halves of that; or the ordered target and the back end's copy of it.
constexpr int64_t kWeightCopies = 4;
// The same of its Gram matrix: in the layer's order and on the way there, factor, inverse,
// transpose.
constexpr int64_t kGramCopies = 5;
// What calibration sums up of a linear: its Gram matrix and the drift.
constexpr int64_t kSumCopies = 2;

struct Linear {
  int64_t num_outputs;
  int64_t num_inputs;
};

// Both halves of the vocabulary's work: the table as floats, and what is written of it.
int64_t EmbeddingBytes(const ModelConfig& config) {
  constexpr int64_t kCodeBytes = 2;
  return int64_t{config.vocab_size} * config.hidden_size * (kFloatBytes + kCodeBytes);
}

int64_t LayerBytes(const ModelConfig& config, const CalibrationSize& calibration) {
  const int64_t hidden = config.hidden_size;
  const int64_t ffn = config.ffn_size;
  const Linear linears[] = {
      {config.qkv_size(), hidden}, {hidden, config.q_size()}, {2 * ffn, hidden}, {hidden, ffn}};
  int64_t weights = 0;
  int64_t statistics = 0;
  int64_t stage_max = 0;
  for (const auto& [num_outputs, num_inputs] : linears) {
    weights += num_outputs * num_inputs;
    stage_max = std::max(stage_max, kWeightCopies * num_outputs * num_inputs +
                                        kGramCopies * num_inputs * num_inputs);
    statistics = std::max(statistics, kSumCopies * num_inputs * num_inputs +
                                          calibration.num_sample_tokens * num_inputs);
  }
  // qkv's are held while its keys are treated; o and down have the residual stream's gap.
  statistics += kSumCopies * hidden * hidden + hidden * std::max(int64_t{config.q_size()}, ffn);
  // The layer as read and, while calibration runs, as the back end has it.
  const int64_t calibrating =
      weights + calibration.window_tokens_max * (4 * hidden + config.qkv_size() + 4 * ffn);
  return kFloatBytes * (weights + statistics + std::max(calibrating, stage_max));
}

// The float model's run over the held-out text: the vocabulary's table or a layer's weights, each
// as read and as the back end has it, beside the tokens' residual stream.
int64_t HeldOutBytes(const ModelConfig& config, const CalibrationSize& calibration) {
  const int64_t hidden = config.hidden_size;
  const int64_t layer =
      hidden * (config.qkv_size() + config.q_size() + 3 * int64_t{config.ffn_size});
  const int64_t table = hidden * config.vocab_size;
  return kFloatBytes * (2 * std::max(layer, table) + calibration.num_held_out_tokens * hidden);
}

int64_t HeldLayerBytes(const ModelConfig& config, const CalibrationSize& calibration) {
  const int64_t hidden = config.hidden_size;
  const int64_t layer =
      hidden * (config.qkv_size() + config.q_size() + 3 * int64_t{config.ffn_size});
  const int64_t codes = calibration.holds_layers ? config.num_layers * layer / 2 : 0;
  return codes + (calibration.holds_residuals ? config.num_layers * layer : 0);
}

int64_t Mebibytes(int64_t bytes) { return (bytes + (1 << 20) - 1) >> 20; }

}  // namespace

int64_t EstimatePeakBytes(const ModelConfig& config, const CalibrationSize& calibration) {
  // Both models' residual streams, their gap and a copy for tuning; both models' inputs of the
  // widest linear, the float model's once more.
  const int64_t residual_stream =
      kFloatBytes * calibration.num_tokens *
      (4 * int64_t{config.hidden_size} + 3 * int64_t{std::max(config.q_size(), config.ffn_size)});
  // The float model's inputs of the widest linear, and what the quantised one embeds.
  const int64_t tuning_stream =
      kFloatBytes * calibration.num_tuning_tokens *
      (2 * int64_t{config.hidden_size} + int64_t{std::max(config.q_size(), config.ffn_size)});
  return kFixedBytes + tuning_stream +
         std::max({residual_stream + EmbeddingBytes(config),
                   residual_stream + LayerBytes(config, calibration) +
                       HeldLayerBytes(config, calibration),
                   HeldOutBytes(config, calibration)});
}

Status CheckMemory(int64_t needed_bytes, int64_t available_bytes) {
  if (needed_bytes <= available_bytes) return Status::Ok();
  return ResourceExhausted(StrCat("quantize: ", Mebibytes(needed_bytes),
                                  " MiB of memory are needed, available are ",
                                  Mebibytes(available_bytes), " MiB"));
}

}  // namespace comet
