#include "engine/quantizer/quantize_model.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/config/config_check.h"
#include "engine/loader/checkpoint.h"
#include "engine/loader/checkpoint_writer.h"
#include "engine/model/device_tensor.h"
#include "engine/quantizer/activation_statistics.h"
#include "engine/quantizer/calibration_streams.h"
#include "engine/quantizer/held_out.h"
#include "engine/quantizer/int8_rows.h"
#include "engine/quantizer/key_bits.h"
#include "engine/quantizer/key_smoothing.h"
#include "engine/quantizer/layer_quantizer.h"
#include "engine/quantizer/memory_estimate.h"
#include "engine/quantizer/model_tuner.h"
#include "engine/quantizer/rotated_source.h"
#include "engine/quantizer/rotation.h"
#include "engine/quantizer/source_check.h"
#include "engine/quantizer/value_bits.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

int NumTokens(const std::vector<std::vector<int>>& windows) {
  size_t count = 0;
  for (const std::vector<int>& window : windows) count += window.size();
  return static_cast<int>(count);
}

// How one layer's keys and values are held.
struct CacheChoice {
  ValueBitsChoice values;
  KeyBitsChoice keys;
};

// The state of one run: the residual stream of every calibration window, moved layer by layer.
class ModelQuantizer {
 public:
  ModelQuantizer(FloatSource& source, Backend& backend, const QuantizeModelOptions& options,
                 const std::function<void(const QuantizeProgress&)>& progress)
      : source_(&source),
        backend_(backend),
        options_(options),
        progress_(progress),
        budget_(source.config(), options.int4_share) {}

  Result<AccuracyReport> Run();

 private:
  Result<CalibrationText> ReadText();
  Status Rotate(const std::vector<std::vector<int>>& windows);
  Status QuantizeEmbedding(const std::vector<std::vector<int>>& windows);
  Result<Int8Rows> WriteLmHead(std::span<const float> table);
  size_t TableSize() const {
    return static_cast<size_t>(source_->config().vocab_size) *
           static_cast<size_t>(source_->config().hidden_size);
  }
  // The windows' rows of a table, `value_at` its elements.
  WindowRows Embed(const std::vector<std::vector<int>>& windows,
                   const std::function<float(size_t)>& value_at) const;
  Status MakeStreams(std::ptrdiff_t num_calibrated);
  Status PassTuningWindows(const FloatLayer& layer);
  Status QuantizeOneLayer(int layer_idx);
  Result<CacheChoice> ChooseCache(std::span<const float> gram, std::span<const float> first_window,
                                  FloatLayer& layer);
  Result<KeyBitsChoice> TreatKeys(std::span<const float> gram, ConstTensorView hidden, int k_bits,
                                  FloatLayer& layer);
  Status Tune();
  Status Finish(const std::vector<std::vector<int>>& held_out);
  void Report(std::string_view detail);

  FloatSource* source_;  // The rotated one once that is chosen.
  std::unique_ptr<FloatSource> rotated_;
  Backend& backend_;
  const QuantizeModelOptions& options_;
  const std::function<void(const QuantizeProgress&)>& progress_;
  PrecisionBudget budget_;
  std::unique_ptr<CheckpointWriter> writer_;
  WindowRows embedded_;   // The windows as the float model embeds them,
  WindowRows quantized_;  // and as the quantised model does.
  std::optional<CalibrationStreams> streams_;
  std::optional<ResidualStream> tuning_stream_;  // The float model's, of windows only tuned on.
  AccuracyReport report_;
  bool tunes_ = false;
  bool tunes_codes_ = false;
  TuningOptions tuning_options_;
  std::vector<QuantizedLayer> layers_;     // Held back for tuning, with what
  std::vector<LayerResiduals> residuals_;  // their codes were rounded from.
  TuningTask tuning_;
  std::vector<float> final_norm_;
  int sample_stride_ = 1;
  int steps_done_ = 0;
};

Result<AccuracyReport> ModelQuantizer::Run() {
  ModelConfig config = source_->config();
  COMET_RETURN_IF_ERROR(CheckVocabulary(config, source_->vocabulary()));
  COMET_ASSIGN_OR_RETURN(const CalibrationText text, ReadText());
  const CalibrationSize calibration{
      .num_tokens = report_.num_calibration_tokens,
      .num_tuning_tokens = NumTokens(text.tuning),
      .holds_layers = tunes_,
      .holds_residuals = tunes_codes_,
      .window_tokens_max = static_cast<int>(text.windows.front().size()),
      .num_sample_tokens = report_.num_sample_tokens,
      .num_held_out_tokens = options_.calibration.held_out_tokens_max};
  COMET_RETURN_IF_ERROR(
      CheckMemory(EstimatePeakBytes(config, calibration), options_.memory_bytes_max));
  if (options_.rotates) config.tied_embeddings = false;
  COMET_ASSIGN_OR_RETURN(FloatLayer first_layer, source_->ReadLayer(0));
  COMET_ASSIGN_OR_RETURN(
      writer_, CheckpointWriter::Create(options_.output, config, !first_layer.qkv_bias.empty(),
                                        options_.may_replace));
  first_layer = {};
  if (options_.rotates) COMET_RETURN_IF_ERROR(Rotate(text.windows));
  std::vector<std::vector<int>> windows = text.windows;
  windows.insert(windows.end(), text.tuning.begin(), text.tuning.end());
  COMET_RETURN_IF_ERROR(QuantizeEmbedding(windows));
  COMET_RETURN_IF_ERROR(MakeStreams(static_cast<std::ptrdiff_t>(text.windows.size())));
  for (int i = 0; i < config.num_layers; ++i) COMET_RETURN_IF_ERROR(QuantizeOneLayer(i));
  if (tunes_) COMET_RETURN_IF_ERROR(Tune());
  COMET_RETURN_IF_ERROR(writer_->WriteFinalNorm(final_norm_));
  streams_.reset();
  COMET_RETURN_IF_ERROR(Finish(text.held_out));
  return std::move(report_);
}

// Measures what was written before it gets its name.
Status ModelQuantizer::Finish(const std::vector<std::vector<int>>& held_out) {
  COMET_ASSIGN_OR_RETURN(const std::string folder,
                         writer_->Seal(source_->vocabulary(), source_->chat_templates()));
  const auto measure = [&]() -> Status {
    COMET_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::Open(folder));
    COMET_ASSIGN_OR_RETURN(
        report_.held_out,
        MeasureHeldOut(backend_, *source_, *checkpoint, held_out, options_.num_threads,
                       [this](std::string_view what) { Report(what); }));
    return Status::Ok();
  };
  const Status measured = measure();
  if (measured.ok()) return writer_->Publish(report_.ToJson());
  return Status(measured.code(), StrCat(measured.message(), "; what was written is kept as ",
                                        folder, ", without an accuracy report"));
}

Result<CalibrationText> ModelQuantizer::ReadText() {
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                         Tokenizer::Create(source_->vocabulary()));
  CalibrationOptions calibration = options_.calibration;
  calibration.window_tokens =
      std::min(calibration.window_tokens, source_->config().context_length_max);
  const std::string_view text = options_.calibration_text.empty()
                                    ? DefaultCalibrationText()
                                    : std::string_view(options_.calibration_text);
  COMET_ASSIGN_OR_RETURN(CalibrationText split,
                         SplitCalibrationText(*tokenizer, text, calibration));
  report_.num_calibration_tokens = NumTokens(split.windows);
  const int window_tokens = static_cast<int>(split.windows.front().size());
  const TuningSize tuning_size =
      SizeOfTuning(source_->config(), window_tokens, options_.tuning,
                   std::min(options_.tuning_bytes_max, options_.memory_bytes_max));
  tunes_ = tuning_size.num_bytes > 0;
  tunes_codes_ = tuning_size.has_codes;
  tuning_options_ = options_.tuning;
  tuning_options_.num_threads = options_.num_threads;
  if (!tunes_codes_) tuning_options_.code_rate = 0.0f;
  const size_t num_tuning =
      tunes_ ? static_cast<size_t>(TuningWindows(options_.tuning, window_tokens)) : 0;
  const size_t num_windows = split.windows.size();
  split.tuning.resize(
      std::min(split.tuning.size(), num_tuning - std::min(num_tuning, num_windows)));
  tuning_options_.num_steps = StepsOfOneEpoch(
      options_.tuning, static_cast<int64_t>(num_windows + split.tuning.size()), window_tokens);
  sample_stride_ = CeilDiv(report_.num_calibration_tokens, options_.sample_tokens_max);
  report_.num_sample_tokens = CeilDiv(report_.num_calibration_tokens, sample_stride_);
  return split;
}

// Puts the source into bases that its activations are easier to hold in.
Status ModelQuantizer::Rotate(const std::vector<std::vector<int>>& windows) {
  WindowRows embedded;
  {
    COMET_ASSIGN_OR_RETURN(const std::vector<float> table, source_->ReadEmbedding());
    COMET_RETURN_IF_ERROR(CheckTensor("embedding", table, TableSize()));
    const size_t num_windows =
        CeilDiv(static_cast<size_t>(options_.rotation_tokens), windows.front().size());
    const std::vector<std::vector<int>> first(
        windows.begin(),
        windows.begin() + static_cast<std::ptrdiff_t>(std::min(num_windows, windows.size())));
    embedded = Embed(first, [&](size_t i) { return table[i]; });
  }
  COMET_ASSIGN_OR_RETURN(ModelRotation rotation,
                         ChooseRotation(backend_, *source_, std::move(embedded),
                                        options_.int4_share, options_.num_threads));
  rotated_ = MakeRotatedSource(*source_, backend_, std::move(rotation), options_.num_threads);
  source_ = rotated_.get();
  Report("rotation");
  return Status::Ok();
}

Status ModelQuantizer::QuantizeEmbedding(const std::vector<std::vector<int>>& windows) {
  {
    COMET_ASSIGN_OR_RETURN(const std::vector<float> embedding, source_->ReadEmbedding());
    COMET_RETURN_IF_ERROR(CheckTensor("embedding", embedding, TableSize()));
    embedded_ = Embed(windows, [&](size_t i) { return embedding[i]; });
    if (source_->config().tied_embeddings) {
      COMET_ASSIGN_OR_RETURN(const Int8Rows rows, WriteLmHead(embedding));
      const size_t width = static_cast<size_t>(source_->config().hidden_size);
      quantized_ = Embed(windows, [&](size_t i) {
        return static_cast<float>(rows.codes[i]) * rows.scale[i / width];
      });
    } else {
      std::vector<Half> table;
      table.reserve(embedding.size());
      for (const float value : embedding) table.push_back(HalfFromFloat(value));
      quantized_ = Embed(windows, [&](size_t i) { return ToFloat(table[i]); });
      COMET_RETURN_IF_ERROR(writer_->WriteEmbedding(table));
    }
  }
  if (!source_->config().tied_embeddings) {
    COMET_ASSIGN_OR_RETURN(const std::vector<float> lm_head, source_->ReadLmHead());
    COMET_RETURN_IF_ERROR(CheckTensor("LM head", lm_head, TableSize()));
    COMET_RETURN_IF_ERROR(WriteLmHead(lm_head).status());
  }
  COMET_ASSIGN_OR_RETURN(final_norm_, source_->ReadFinalNorm());
  COMET_RETURN_IF_ERROR(
      CheckTensor("final norm", final_norm_, static_cast<size_t>(source_->config().hidden_size)));
  Report("embedding and LM head");
  return Status::Ok();
}

Result<Int8Rows> ModelQuantizer::WriteLmHead(std::span<const float> table) {
  Int8Rows rows = QuantizeInt8Rows(table, source_->config().hidden_size, options_.num_threads);
  report_.lm_head_error = rows.relative_error;
  COMET_RETURN_IF_ERROR(writer_->WriteLmHead(rows.codes, rows.scale));
  return rows;
}

WindowRows ModelQuantizer::Embed(const std::vector<std::vector<int>>& windows,
                                 const std::function<float(size_t)>& value_at) const {
  const size_t width = static_cast<size_t>(source_->config().hidden_size);
  WindowRows embedded;
  for (const std::vector<int>& window : windows) {
    HostRows rows;
    rows.reserve(window.size() * width);
    for (const int token_id : window) {
      const size_t first = static_cast<size_t>(token_id) * width;
      for (size_t k = 0; k < width; ++k) rows.push_back(value_at(first + k));
    }
    embedded.push_back(std::move(rows));
  }
  return embedded;
}

// The first windows are calibrated on, the others only tuned on.
Status ModelQuantizer::MakeStreams(std::ptrdiff_t num_calibrated) {
  const ModelConfig& config = source_->config();
  const auto first_tuned = embedded_.begin() + num_calibrated;
  if (first_tuned != embedded_.end()) {
    COMET_ASSIGN_OR_RETURN(
        tuning_stream_,
        ResidualStream::Create(backend_, config, WindowRows(first_tuned, embedded_.end()),
                               options_.num_threads));
    embedded_.erase(first_tuned, embedded_.end());
  }
  COMET_ASSIGN_OR_RETURN(
      ResidualStream float_model,
      ResidualStream::Create(backend_, config, std::move(embedded_), options_.num_threads));
  std::optional<ResidualStream> quantized;
  if (options_.follows_quantized) {
    COMET_ASSIGN_OR_RETURN(
        quantized, ResidualStream::Create(backend_, config,
                                          {quantized_.begin(), quantized_.begin() + num_calibrated},
                                          options_.num_threads));
  }
  if (tunes_) {
    tuning_.inputs = std::move(quantized_);
  } else {
    quantized_.clear();
  }
  streams_.emplace(backend_, std::move(float_model), std::move(quantized), options_.num_threads);
  return Status::Ok();
}

Status ModelQuantizer::QuantizeOneLayer(int layer_idx) {
  const ModelConfig& config = source_->config();
  COMET_ASSIGN_OR_RETURN(FloatLayer layer, source_->ReadLayer(layer_idx));
  COMET_RETURN_IF_ERROR(CheckLayer(config, layer_idx, layer));
  const HostRows first_window = streams_->float_hidden().front();
  COMET_RETURN_IF_ERROR(PassTuningWindows(layer));
  streams_->BeginLayer(layer);
  COMET_ASSIGN_OR_RETURN(const ActivationStatistics qkv,
                         streams_->See(LinearKind::kQkv, layer, sample_stride_));
  COMET_ASSIGN_OR_RETURN(const CacheChoice cache, ChooseCache(qkv.gram, first_window, layer));

  WeightSearch search = options_.search;
  search.num_threads = options_.num_threads;
  search.keeps_residuals = tunes_codes_;
  COMET_ASSIGN_OR_RETURN(LayerResult result, QuantizeLayer(backend_, layer, qkv, *streams_,
                                                           {.int4_channels = budget_.NextLayer(),
                                                            .damping = options_.damping,
                                                            .gap_share = options_.gap_share,
                                                            .down_hadamard = options_.down_hadamard,
                                                            .sample_stride = sample_stride_,
                                                            .search = search}));
  result.layer.kv = {.k_bits = cache.keys.k_bits, .v_bits = cache.values.v_bits};
  result.layer.qk_hadamard = cache.keys.hadamard.use_hadamard();
  result.accuracy.keys = cache.keys.hadamard;
  result.accuracy.value_error = cache.values.error;
  result.accuracy.kv = result.layer.kv;
  if (tunes_) {
    layers_.push_back(std::move(result.layer));
    if (tunes_codes_) residuals_.push_back(std::move(result.residuals));
  } else {
    COMET_RETURN_IF_ERROR(writer_->WriteLayer(layer_idx, result.layer));
  }
  report_.layers.push_back(result.accuracy);
  Report(StrCat("layer ", layer_idx));
  return Status::Ok();
}

Status ModelQuantizer::PassTuningWindows(const FloatLayer& layer) {
  if (!tuning_stream_) return Status::Ok();
  tuning_stream_->BeginLayer(layer);
  COMET_RETURN_IF_ERROR(tuning_stream_->Pass(LinearKind::kQkv, layer, layer.qkv).status());
  COMET_RETURN_IF_ERROR(tuning_stream_->Pass(LinearKind::kO, layer, layer.o).status());
  COMET_RETURN_IF_ERROR(tuning_stream_->Pass(LinearKind::kGateUp, layer, layer.gate_up).status());
  return tuning_stream_->Pass(LinearKind::kDown, layer, layer.down).status();
}

// Values first: keys get as many bits at least, see QuantizeModelOptions::kv. Treats the keys.
Result<CacheChoice> ModelQuantizer::ChooseCache(std::span<const float> gram,
                                                std::span<const float> first_window,
                                                FloatLayer& layer) {
  const ModelConfig& config = source_->config();
  const int num_tokens = static_cast<int>(first_window.size()) / config.hidden_size;
  COMET_ASSIGN_OR_RETURN(
      const DeviceTensor hidden,
      DeviceTensor::Upload(*backend_.device,
                           {first_window.data(), DType::kF32, {num_tokens, config.hidden_size}}));
  CacheChoice choice;
  COMET_ASSIGN_OR_RETURN(choice.values,
                         ChooseValueBits(backend_, config, layer, hidden.view(), options_.kv.v_bits,
                                         options_.value_error_max));
  const int k_bits = std::max(options_.kv.k_bits, choice.values.v_bits);
  COMET_ASSIGN_OR_RETURN(choice.keys, TreatKeys(gram, hidden.view(), k_bits, layer));
  return choice;
}

// Smooths the layer's keys if that, with or without a Hadamard, needs fewer bits or makes
// attention's error less.
Result<KeyBitsChoice> ModelQuantizer::TreatKeys(std::span<const float> gram, ConstTensorView hidden,
                                                int k_bits, FloatLayer& layer) {
  const ModelConfig& config = source_->config();
  COMET_ASSIGN_OR_RETURN(const KeyBitsChoice plain, ChooseKeyBits(backend_, config, layer, hidden,
                                                                  k_bits, options_.key_error_max));
  if (!options_.smooths_keys) return plain;
  FloatLayer smoothed = layer;
  SmoothKeys(config, gram, options_.num_threads, smoothed);
  COMET_ASSIGN_OR_RETURN(KeyBitsChoice choice, ChooseKeyBits(backend_, config, smoothed, hidden,
                                                             k_bits, options_.key_error_max));
  const bool is_better =
      choice.k_bits < plain.k_bits ||
      (choice.k_bits == plain.k_bits && choice.hadamard.error() < plain.hadamard.error());
  if (!is_better) return plain;
  choice.hadamard.is_smoothed = true;
  layer = std::move(smoothed);
  return choice;
}

Status ModelQuantizer::Tune() {
  const ModelConfig& config = source_->config();
  tuning_.float_outputs = streams_->float_hidden();
  if (tuning_stream_) {
    const WindowRows& further = tuning_stream_->hidden();
    tuning_.float_outputs.insert(tuning_.float_outputs.end(), further.begin(), further.end());
    tuning_stream_.reset();
  }
  streams_.reset();
  COMET_ASSIGN_OR_RETURN(const std::vector<float> head,
                         config.tied_embeddings ? source_->ReadEmbedding() : source_->ReadLmHead());
  const Int8Rows rows = QuantizeInt8Rows(head, config.hidden_size, options_.num_threads);
  const std::vector<float> float_norm = final_norm_;
  tuning_.float_norm = float_norm;
  tuning_.float_head = head;
  tuning_.quantized_head = &rows;
  tuning_.residuals = residuals_;
  COMET_ASSIGN_OR_RETURN(report_.tuning,
                         TuneModel(backend_, config, tuning_, tuning_options_, layers_, final_norm_,
                                   [&] { Report("tuning"); }));
  for (size_t i = 0; i < layers_.size(); ++i) {
    COMET_RETURN_IF_ERROR(writer_->WriteLayer(static_cast<int>(i), layers_[i]));
  }
  return Status::Ok();
}

void ModelQuantizer::Report(std::string_view detail) {
  ++steps_done_;
  if (!progress_) return;
  const int num_steps = source_->config().num_layers + 4 + (options_.rotates ? 1 : 0) +
                        (tunes_ ? tuning_options_.num_steps : 0);
  progress_({.steps_done = steps_done_, .num_steps = num_steps, .detail = detail});
}

}  // namespace

Status QuantizeModelOptions::Validate() const {
  ConfigCheck check("quantize");
  check.Require(!output.empty(), "output is empty, expected a folder");
  check.Require(int4_share >= 0.0 && int4_share <= 1.0, "int4_share is outside 0 to 1");
  check.InRange("calibration.window_tokens", calibration.window_tokens, 2, 1 << 16);
  check.InRange("rotation_tokens", rotation_tokens, 1, 1 << 24);
  check.Require(gap_share >= 0.0f && gap_share <= 1.0f, "gap_share is outside 0 to 1");
  check.InRange("calibration.tokens_max", calibration.tokens_max, 1, 1 << 24);
  check.InRange("calibration.tuning_tokens_max", calibration.tuning_tokens_max, 0, 1 << 24);
  check.InRange("calibration.held_out_tokens_max", calibration.held_out_tokens_max, 2, 1 << 24);
  check.InRange("sample_tokens_max", sample_tokens_max, 1, 1 << 16);
  check.InRange("num_threads", num_threads, 1, 1024);
  check.Require(key_error_max > 0.0, "key_error_max is not positive");
  check.Require(value_error_max > 0.0, "value_error_max is not positive");
  check.Require(damping > 0.0f && damping <= 10.0f, "damping is outside 0 (exclusive) to 10");
  check.InRange("search.num_refinement_rounds", search.num_refinement_rounds, 0, 100);
  check.Require(tuning_bytes_max >= 0, "tuning_bytes_max is negative");
  check.InRange("tuning.num_steps", tuning.num_steps, 0, 100000);
  check.InRange("tuning.step_tokens", tuning.step_tokens, 1, 1 << 20);
  check.Require(tuning.rate > 0.0f && tuning.rate < 0.1f,
                "tuning.rate is outside 0 to 0.1, both exclusive");
  check.Require(tuning.code_rate >= 0.0f && tuning.code_rate < 1.0f,
                "tuning.code_rate is outside 0 to 1 (exclusive)");
  check.Merge(comet::Validate(kv));
  return check.status();
}

Result<AccuracyReport> QuantizeModel(FloatSource& source, Backend& backend,
                                     const QuantizeModelOptions& options,
                                     const std::function<void(const QuantizeProgress&)>& progress) {
  COMET_RETURN_IF_ERROR(options.Validate());
  COMET_RETURN_IF_ERROR(source.config().Validate());
  return ModelQuantizer(source, backend, options, progress).Run();
}

}  // namespace comet
