// What quantising takes, told from a shape alone.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "engine/loader/checkpoint_writer.h"
#include "engine/loader/folder_config.h"
#include "engine/quantizer/model_shape.h"
#include "engine/quantizer/quantize_model.h"
#include "engine/quantizer/time_estimate.h"
#include "tests/engine/checkpoint/planted_source.h"
#include "tests/engine/checkpoint/test_files.h"
#include "tests/engine/test_data.h"

namespace comet {
namespace {

constexpr CalibrationSize kCalibration{.num_tokens = 8192,
                                       .window_tokens_max = 512,
                                       .num_sample_tokens = 128,
                                       .num_held_out_tokens = 2048};

std::string ShapesPath() {
  return EnvironmentOr("COMET_SOURCE_DIR", ".") + "/tests/engine/checkpoint/model_shapes.json";
}

std::string ConfigText(const std::string& name) {
  return nlohmann::json::parse(ReadBytes(ShapesPath())).at(name).dump();
}

ModelShape ShapeOf(const std::string& name) {
  const Result<FolderConfig> config = ParseFolderConfig(name, ConfigText(name));
  EXPECT_TRUE(config.ok()) << config.status();
  return {.config = config->model, .has_qkv_bias = config->has_qkv_bias};
}

double NumWeights(const ModelConfig& config) {
  const double layer = 1.0 * config.hidden_size * (config.qkv_size() + config.q_size()) +
                       3.0 * config.hidden_size * config.ffn_size;
  const double table = 1.0 * config.hidden_size * config.vocab_size;
  return layer * config.num_layers + table * (config.tied_embeddings ? 1.0 : 2.0);
}

TEST(ModelShape, ReadsPublishedShapes) {
  EXPECT_NEAR(NumWeights(ShapeOf("llama-3-70b").config), 70.55e9, 0.01e9);
  EXPECT_NEAR(NumWeights(ShapeOf("llama-3-8b").config), 8.03e9, 0.01e9);
  EXPECT_NEAR(NumWeights(ShapeOf("mistral-7b").config), 7.24e9, 0.01e9);
  EXPECT_NEAR(NumWeights(ShapeOf("qwen2-0.5b").config), 0.494e9, 0.001e9);
  EXPECT_TRUE(ShapeOf("qwen2-0.5b").has_qkv_bias);
  EXPECT_FALSE(ShapeOf("llama-3-70b").has_qkv_bias);
  EXPECT_EQ(ShapeOf("llama-3-70b").config.head_dim, 128);
}

TEST(ModelShape, ReadsAFolderAndAFile) {
  const TempFolder temp;
  WriteBytes(temp.PathOf("config.json"), ConfigText("llama-3-8b"));

  EXPECT_EQ(ReadModelShape(temp.PathOf("config.json"))->config.num_layers, 32);
  EXPECT_EQ(ReadModelShape(temp.PathOf(""))->config.num_layers, 32);
  EXPECT_EQ(ReadModelShape(temp.PathOf("none.json")).status().code(), StatusCode::kNotFound);
}

TEST(ModelShape, NamesWhatIsWrong) {
  nlohmann::json config = nlohmann::json::parse(ConfigText("llama-3-8b"));
  config.erase("hidden_size");
  const Status missing = ParseFolderConfig("c", config.dump()).status();
  EXPECT_EQ(missing.code(), StatusCode::kDataLoss);
  EXPECT_NE(missing.message().find("hidden_size"), std::string::npos) << missing;

  config["hidden_size"] = 4097;
  EXPECT_FALSE(ParseFolderConfig("c", config.dump()).ok());
  config["model_type"] = "gpt2";
  EXPECT_EQ(ParseFolderConfig("c", config.dump()).status().code(), StatusCode::kUnimplemented);
  EXPECT_EQ(ParseFolderConfig("c", "{").status().code(), StatusCode::kDataLoss);
}

TEST(QuantizePlan, DiskIsWhatAWrittenCheckpointTakes) {
  const auto source = MakePlantedSource({.k_bias_norm = 10.0f});
  const TempFolder temp;
  Result<Backend> backend = MakeBackend({.device = "cpu", .num_threads = 2});
  ASSERT_TRUE(backend.ok());
  const auto report = QuantizeModel(
      *source, *backend,
      {.output = temp.PathOf("model"), .calibration_text = PlantedText(64, 1), .num_threads = 2},
      {});
  ASSERT_TRUE(report.ok()) << report.status();

  const int64_t bytes = CheckpointWeightsBytes(source->config(), /*has_qkv_bias=*/true);

  const auto written =
      static_cast<int64_t>(std::filesystem::file_size(temp.PathOf("model") + "/model.safetensors"));
  EXPECT_LE(bytes, written);
  EXPECT_LT(written - bytes, 8192);  // The header.
}

TEST(QuantizePlan, A70BCheckpointTakesFourBitsAWeightAndItsTables) {
  const int64_t bytes = CheckpointWeightsBytes(ShapeOf("llama-3-70b").config, false);

  // 68.45e9 weights at 4 bits and a step a block of 128, an INT8 head, an fp16 embedding.
  EXPECT_NEAR(static_cast<double>(bytes), 68.45e9 * (4.0 + 8.0 / 128.0) / 8.0 + 3 * 1.0507e9,
              0.05e9);
}

TEST(QuantizePlan, WorkGrowsWithLayersAndTokens) {
  ModelConfig config = ShapeOf("llama-3-70b").config;
  const QuantizeWork whole = EstimateWork(config, kCalibration, {}, {});
  config.num_layers = 40;
  const QuantizeWork half = EstimateWork(config, kCalibration, {}, {});

  EXPECT_DOUBLE_EQ(half.searched_weights, 0.5 * whole.searched_weights);
  EXPECT_NEAR(whole.searched_weights, 68.45e9, 0.01e9);
  EXPECT_DOUBLE_EQ(half.factor_ops, 0.5 * whole.factor_ops);
  // Two operations a weight and token, of 8,192 and three times 2,048 tokens, at the least.
  EXPECT_GT(whole.float_ops, 2.0 * 68.45e9 * 14336);
  EXPECT_LT(whole.float_ops, 8.0 * 68.45e9 * 14336);
}

TEST(QuantizePlan, SecondsAreWorkOverRates) {
  const QuantizeWork work{
      .float_ops = 10.0, .searched_weights = 20.0, .feedback_ops = 30.0, .factor_ops = 40.0};
  const QuantizeRates rates{
      .float_ops = 1.0, .searched_weights = 2.0, .feedback_ops = 3.0, .factor_ops = 4.0};

  EXPECT_DOUBLE_EQ(EstimateSeconds(work, rates), 40.0);
}

TEST(QuantizePlan, MeasuresEveryRate) {
  Result<Backend> backend = MakeBackend({.device = "cpu", .num_threads = 2});
  ASSERT_TRUE(backend.ok());

  const Result<QuantizeRates> rates = MeasureRates(*backend, 2);

  ASSERT_TRUE(rates.ok()) << rates.status();
  // Any CPU that runs this does a thousandth of these and no more than a thousand times as much.
  for (const auto& [rate, typical] : {std::pair(rates->float_ops, 1e10),
                                      {rates->searched_weights, 1e6},
                                      {rates->feedback_ops, 1e9},
                                      {rates->factor_ops, 1e9}}) {
    EXPECT_GT(rate, 1e-3 * typical);
    EXPECT_LT(rate, 1e3 * typical);
  }
}

}  // namespace
}  // namespace comet
