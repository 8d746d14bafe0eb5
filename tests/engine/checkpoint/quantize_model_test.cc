#include "engine/quantizer/quantize_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "engine/loader/checkpoint.h"
#include "engine/model/model.h"
#include "engine/quantizer/layer_linears.h"
#include "engine/quantizer/relative_error.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/engine/checkpoint/test_files.h"
#include "tests/engine/one_sequence.h"
#include "tests/engine/stories_fixture.h"

namespace comet {
namespace {

namespace fs = std::filesystem;

class QuantizeModelTest : public StoriesTest {
 protected:
  QuantizeModelOptions OptionsFor(const std::string& folder) const {
    return {.output = folder,
            .calibration_text =
                "Once upon a time there was a little girl who lived by the sea. "
                "\"Where is my boat?\" she asked. The boat was big and red.",
            .calibration = {.window_tokens = 32, .tokens_max = 256},
            .tuning = {.num_steps = 2}};
  }

  // Logits of every position of one sentence.
  template <typename Source>
  Result<std::vector<float>> LogitsOf(Source& source, const Precision& precision) {
    const std::vector<int> ids = {1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315};
    const int num_tokens = static_cast<int>(ids.size());
    const ModelLimits limits = LimitsOfOneSequence(num_tokens);
    COMET_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model,
                           Model::Load(backend_, source, precision, limits));
    return ComputeLogits(backend_, *model, limits, {.ids = ids}, FirstIntegers(num_tokens));
  }

  TempFolder temp_;
};

// Catches an order of channels that one side applies and the other does not: it would leave no
// likeness.
TEST_F(QuantizeModelTest, CheckpointComputesNearlyWhatTheSourceDoes) {
  const std::string folder = temp_.PathOf("model");
  const Result<AccuracyReport> report = QuantizeModel(*stories_, backend_, OptionsFor(folder), {});
  ASSERT_TRUE(report.ok()) << report.status();
  const Result<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::Open(folder);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  Precision comet_precision = kFloatPrecision;
  comet_precision.weights = WeightMode::kComet;

  const auto quantized = LogitsOf(**checkpoint, comet_precision);
  const auto original = LogitsOf(*stories_, kFloatPrecision);

  ASSERT_TRUE(quantized.ok() && original.ok()) << quantized.status() << original.status();
  const double error = RelativeError(*quantized, *original);
  EXPECT_LT(error, 0.15);
  EXPECT_GT(error, 0.0);
}

TEST_F(QuantizeModelTest, RefusesToStartWithTooLittleMemory) {
  QuantizeModelOptions options = OptionsFor(temp_.PathOf("model"));
  options.memory_bytes_max = 1 << 20;

  const Status status = QuantizeModel(*stories_, backend_, options, {}).status();

  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("MiB of memory are needed, available are 1 MiB"),
            std::string::npos)
      << status;
  EXPECT_TRUE(fs::is_empty(temp_.PathOf("")));
}

// As many of codes and factors as the memory for tuning has room for: the report says which.
TEST_F(QuantizeModelTest, TunesWhatTheMemoryHasRoomFor) {
  QuantizeModelOptions options = OptionsFor(temp_.PathOf("model"));
  options.may_replace = true;
  const int64_t all = SizeOfTuning(stories_->config(), options.calibration.window_tokens,
                                   options.tuning, int64_t{1} << 40)
                          .num_bytes;
  const auto report_with = [&](int64_t bytes_max) {
    options.tuning_bytes_max = bytes_max;
    return QuantizeModel(*stories_, backend_, options, {}).value();
  };

  const AccuracyReport with_codes = report_with(all);
  const AccuracyReport factors = report_with(all - 1);
  const AccuracyReport untuned = report_with(1);

  EXPECT_TRUE(with_codes.tuning.has_codes);
  EXPECT_FALSE(factors.tuning.has_codes);
  EXPECT_GT(factors.tuning.num_steps, 0);
  EXPECT_EQ(untuned.tuning.num_steps, 0);
  EXPECT_NE(with_codes.ToJson().find("\"tuning_codes\": true"), std::string::npos);
  EXPECT_NE(factors.ToJson().find("\"tuning_codes\": false"), std::string::npos);
}

TEST_F(QuantizeModelTest, ReportHoldsEveryLayer) {
  const Result<AccuracyReport> report =
      QuantizeModel(*stories_, backend_, OptionsFor(temp_.PathOf("model")), {});
  ASSERT_TRUE(report.ok()) << report.status();

  ASSERT_EQ(report->layers.size(), 5u);
  EXPECT_GT(report->num_sample_tokens, 0);
  for (const LayerAccuracy& layer : report->layers) {
    EXPECT_EQ(layer.qkv.int4_share, 0.0);  // 64 channels are no whole block.
    EXPECT_NEAR(layer.down.int4_share, 128.0 / 172.0, 1e-9);
    for (const LinearAccuracy* linear : LinearsOf(layer)) {
      EXPECT_GT(linear->weight_error, 0.0);
      EXPECT_LT(linear->output_error_8, 0.3);
      EXPECT_LT(linear->output_error_mixed, 0.6);
    }
    EXPECT_GT(layer.keys.plain_error, 0.0);
    EXPECT_GT(layer.value_error, 0.0);
    EXPECT_LT(layer.value_error, 0.3);
    EXPECT_EQ(layer.kv.v_bits, 4);
  }
  EXPECT_NE(report->ToJson().find("\"value_error\": 0.0"), std::string::npos);
}

TEST_F(QuantizeModelTest, SameInputGivesSameBytesWhateverTheThreads) {
  QuantizeModelOptions options = OptionsFor(temp_.PathOf("a"));
  ASSERT_TRUE(QuantizeModel(*stories_, backend_, options, {}).ok());
  options.output = temp_.PathOf("b");
  options.num_threads = 3;
  Result<Backend> backend = MakeBackend({.device = "cpu", .num_threads = 5});
  ASSERT_TRUE(backend.ok()) << backend.status();
  ASSERT_TRUE(QuantizeModel(*stories_, *backend, options, {}).ok());

  for (const char* file :
       {"/config.json", "/model.safetensors", "/tokenizer.gguf", "/accuracy.json"}) {
    EXPECT_EQ(ReadBytes(temp_.PathOf("a") + file), ReadBytes(temp_.PathOf("b") + file)) << file;
  }
}

// Attention's sums differ in their last bits, so codes on an edge may; no decision does.
TEST_F(QuantizeModelTest, AnotherBackEndDecidesTheSame) {
  Result<Backend> reference = MakeBackend({.device = "reference"});
  ASSERT_TRUE(reference.ok()) << reference.status();
  const auto expected = QuantizeModel(*stories_, backend_, OptionsFor(temp_.PathOf("cpu")), {});
  ASSERT_TRUE(expected.ok()) << expected.status();

  const auto report =
      QuantizeModel(*stories_, *reference, OptionsFor(temp_.PathOf("reference")), {});

  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(ReadBytes(temp_.PathOf("cpu/config.json")),
            ReadBytes(temp_.PathOf("reference/config.json")));
  EXPECT_NEAR(report->held_out.source / expected->held_out.source, 1.0, 1e-3);
  EXPECT_NEAR(report->held_out.int8 / expected->held_out.int8, 1.0, 0.02);
  EXPECT_NEAR(report->Mean().weight_error / expected->Mean().weight_error, 1.0, 0.01);
}

TEST_F(QuantizeModelTest, ReportsProgressToTheEnd) {
  int last = 0;
  int all = 0;

  const Result<AccuracyReport> report =
      QuantizeModel(*stories_, backend_, OptionsFor(temp_.PathOf("model")),
                    [&](const QuantizeProgress& progress) {
                      EXPECT_EQ(progress.steps_done, last + 1);
                      last = progress.steps_done;
                      all = progress.num_steps;
                    });

  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(last, all);
}

TEST_F(QuantizeModelTest, RefusesAnOutputThatExists) {
  fs::create_directory(temp_.PathOf("model"));

  const Status status =
      QuantizeModel(*stories_, backend_, OptionsFor(temp_.PathOf("model")), {}).status();

  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
}

TEST_F(QuantizeModelTest, RefusesOptionsOutsideTheirRange) {
  QuantizeModelOptions options = OptionsFor("");
  options.int4_share = 1.5;
  options.sample_tokens_max = 0;

  const Status status = QuantizeModel(*stories_, backend_, options, {}).status();

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  for (const char* name : {"output", "int4_share", "sample_tokens_max"}) {
    EXPECT_NE(status.message().find(name), std::string::npos) << status;
  }
}

TEST_F(QuantizeModelTest, LeavesNothingBehindWhenItFails) {
  QuantizeModelOptions options = OptionsFor(temp_.PathOf("model"));
  options.kv.k_bits = 5;

  EXPECT_FALSE(QuantizeModel(*stories_, backend_, options, {}).ok());
  EXPECT_TRUE(fs::is_empty(temp_.PathOf("")));
}

TEST_F(QuantizeModelTest, WindowsCoverTheTextOnce) {
  const auto tokenizer = Tokenizer::Create(stories_->vocabulary());
  ASSERT_TRUE(tokenizer.ok());

  const auto windows = CalibrationWindows(**tokenizer, DefaultCalibrationText(),
                                          {.window_tokens = 100, .tokens_max = 330});

  ASSERT_TRUE(windows.ok()) << windows.status();
  ASSERT_EQ(windows->size(), 4u);
  EXPECT_EQ(windows->front().size(), 100u);
  EXPECT_EQ(windows->back().size(), 30u);
  EXPECT_EQ(windows->front().front(), stories_->vocabulary().bos_id);
}

}  // namespace
}  // namespace comet
