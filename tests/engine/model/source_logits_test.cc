// Small random models in every form that is read, against logits by Hugging Face's transformers:
// tests/engine/sources/make_models.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <tuple>

#include "engine/loader/gguf_tensor_types.h"
#include "engine/model/model_source.h"
#include "engine/quantizer/quantize_model.h"
#include "engine/quantizer/relative_error.h"
#include "kernels/make_backend.h"
#include "tests/engine/checkpoint/test_files.h"
#include "tests/engine/one_sequence.h"
#include "tests/engine/test_data.h"

namespace comet {
namespace {

namespace fs = std::filesystem;

constexpr ModelLimits kLimits = LimitsOfOneSequence(64);

std::string ModelsFolder() {
  const std::string committed =
      EnvironmentOr("COMET_SOURCE_DIR", ".") + "/tests/engine/sources/models";
  return EnvironmentOr("COMET_SOURCE_MODELS", committed);
}

struct Example {
  std::string path;  // What is opened.
  nlohmann::json expected;
};

nlohmann::json ReadJson(const fs::path& path) {
  nlohmann::json json;
  std::ifstream(path) >> json;
  return json;
}

std::vector<Example> ReadExamples() {
  std::vector<Example> examples;
  for (const auto& entry : fs::directory_iterator(ModelsFolder())) {
    const fs::path& path = entry.path();
    if (entry.is_directory()) {
      examples.push_back({path.string(), ReadJson(path / "expected.json")});
    } else if (path.extension() == ".gguf") {
      examples.push_back(
          {path.string(), ReadJson(fs::path(path).replace_extension(".expected.json"))});
    }
  }
  return examples;
}

// Logits of the example's tokens by the model at `path`.
Result<std::vector<float>> LogitsOf(const Example& example, const std::string& path) {
  COMET_ASSIGN_OR_RETURN(Backend backend, MakeBackend({.device = "cpu", .num_threads = 1}));
  COMET_ASSIGN_OR_RETURN(ModelSource source, ModelSource::Open(path));
  COMET_ASSIGN_OR_RETURN(const Precision precision, source.ChoosePrecision("float", "32"));
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model,
                         source.Load(backend, precision, kLimits));
  return ComputeLogits(backend, *model, kLimits,
                       {.ids = example.expected.at("ids").get<std::vector<int>>()},
                       example.expected.at("rows").get<std::vector<int>>());
}

std::vector<float> ExpectedLogits(const Example& example) {
  std::vector<float> expected;
  for (const nlohmann::json& row : example.expected.at("logits")) {
    for (const nlohmann::json& value : row) expected.push_back(value.get<float>());
  }
  return expected;
}

TEST(SourceLogits, AreThoseOfTransformers) {
  const std::vector<Example> examples = ReadExamples();
  EXPECT_GE(examples.size(), 15u) << ModelsFolder();
  for (const Example& example : examples) {
    const Result<std::vector<float>> logits = LogitsOf(example, example.path);

    ASSERT_TRUE(logits.ok()) << example.path << ": " << logits.status();
    const std::vector<float> expected = ExpectedLogits(example);
    ASSERT_EQ(logits->size(), expected.size());
    float largest = 0.0f;
    float difference = 0.0f;
    for (size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::abs(expected[i]));
      difference = std::max(difference, std::abs((*logits)[i] - expected[i]));
    }
    // fp32 against float64 arithmetic.
    EXPECT_LT(difference, 1e-5f * largest) << example.path;
    EXPECT_GT(largest, 0.1f) << example.path;
  }
}

// Does not compile when a field is added.
auto FieldsOf(const RopeConfig& rope) {
  const auto& [type, theta, factor, low, high, original, fast, slow, attention, divisors] = rope;
  return std::tie(type, theta, factor, low, high, original, fast, slow, attention, divisors);
}

// Windows, biases, head sizes and scalings go through quantising too.
TEST(SourceLogits, AreNearlyThoseOfACheckpointMadeOfIt) {
  std::string text;
  for (int i = 0; i < 600; ++i) text += static_cast<char>('a' + i * i % 26);
  const TempFolder temp;
  for (const Example& example : ReadExamples()) {
    Result<Backend> backend = MakeBackend({.device = "cpu", .num_threads = 1});
    ASSERT_TRUE(backend.ok()) << backend.status();
    Result<std::unique_ptr<FloatSource>> source = FloatSource::Open(example.path);
    ASSERT_TRUE(source.ok()) << source.status();
    const std::string folder = temp.PathOf(fs::path(example.path).filename().string());
    const Result<AccuracyReport> report =
        QuantizeModel(**source, *backend,
                      {.output = folder,
                       .calibration_text = text,
                       .calibration = {.window_tokens = 48, .tokens_max = 384},
                       .tuning = {.num_steps = 1}},
                      {});
    ASSERT_TRUE(report.ok()) << example.path << ": " << report.status();

    const Result<std::vector<float>> logits = LogitsOf(example, folder);

    ASSERT_TRUE(logits.ok()) << logits.status();
    // 4 bits of random weights are far off, unrelated logits farther: 1.4.
    EXPECT_LT(RelativeError(*logits, ExpectedLogits(example)), 0.8) << example.path;
    const Result<ModelSource> written = ModelSource::Open(folder);
    ASSERT_TRUE(written.ok()) << written.status();
    const ModelConfig& config = written->config();
    EXPECT_EQ(config.sliding_window, (*source)->config().sliding_window) << example.path;
    EXPECT_TRUE(FieldsOf(config.rope) == FieldsOf((*source)->config().rope)) << example.path;
  }
}

TEST(GgufGroups, HaveTheValuesOfTheGgufPackage) {
  for (const nlohmann::json& one : ReadJson(ModelsFolder() + "/gguf_groups.json")) {
    const auto hex = one.at("bytes").get<std::string>();
    const auto expected = one.at("values").get<std::vector<float>>();
    std::vector<std::byte> bytes;
    for (size_t i = 0; i < hex.size(); i += 2) {
      bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    }
    const auto type = static_cast<GgufTensorType>(one.at("type").get<uint32_t>());
    ASSERT_TRUE(IsKnown(type)) << one.at("name");
    std::vector<float> actual(expected.size());

    Dequantize(type, bytes, actual);

    EXPECT_EQ(ToString(type), one.at("name").get<std::string>());
    EXPECT_EQ(actual, expected) << one.at("name");
  }
}

}  // namespace
}  // namespace comet
