// What QuantizeModel() says of input that it cannot use, and that it leaves nothing behind.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "engine/loader/accuracy_file.h"
#include "engine/loader/checkpoint.h"
#include "engine/quantizer/quantize_model.h"
#include "engine/quantizer/source_check.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/engine/checkpoint/test_files.h"
#include "tests/engine/stories_fixture.h"

namespace comet {
namespace {

namespace fs = std::filesystem;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A source that the test damages.
class DamagedSource final : public FloatSource {
 public:
  explicit DamagedSource(FloatSource& source)
      : source_(source), config_(source.config()), vocabulary_(source.vocabulary()) {}

  const ModelConfig& config() const override { return config_; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  const std::vector<NamedTemplate>& chat_templates() const override {
    return source_.chat_templates();
  }
  Result<FloatLayer> ReadLayer(int layer_idx) override {
    if (check_read) COMET_RETURN_IF_ERROR(check_read());
    Result<FloatLayer> layer = source_.ReadLayer(layer_idx);
    if (layer.ok() && damage_layer) damage_layer(layer_idx, *layer);
    return layer;
  }
  Result<std::vector<float>> ReadEmbedding() override {
    Result<std::vector<float>> table = source_.ReadEmbedding();
    if (table.ok() && damage_embedding) damage_embedding(*table);
    return table;
  }
  Result<std::vector<float>> ReadFinalNorm() override { return source_.ReadFinalNorm(); }
  Result<std::vector<float>> ReadLmHead() override { return source_.ReadLmHead(); }

  ModelConfig& mutable_config() { return config_; }
  Vocabulary& mutable_vocabulary() { return vocabulary_; }

  std::function<Status()> check_read;  // Before each layer.
  std::function<void(int, FloatLayer&)> damage_layer;
  std::function<void(std::vector<float>&)> damage_embedding;

 private:
  FloatSource& source_;
  ModelConfig config_;
  Vocabulary vocabulary_;
};

// Files may not grow beyond `num_bytes` while this lives, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t num_bytes) {
    previous_handler_ = ::signal(SIGXFSZ, SIG_IGN);
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &previous_), 0);
    rlimit limit = previous_;
    limit.rlim_cur = num_bytes;
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &previous_);
    ::signal(SIGXFSZ, previous_handler_);
  }

 private:
  rlimit previous_{};
  void (*previous_handler_)(int) = nullptr;
};

class QuantizeInputTest : public StoriesTest {
 protected:
  void SetUp() override {
    StoriesTest::SetUp();
    if (stories_ != nullptr) source_ = std::make_unique<DamagedSource>(*stories_);
  }

  Status Quantize(const std::string& text) {
    return QuantizeModel(*source_, backend_,
                         {.output = temp_.PathOf("model"),
                          .calibration_text = text,
                          .calibration = {.window_tokens = 32, .tokens_max = 64},
                          .tuning = {.num_steps = 0}},
                         {})
        .status();
  }
  Status Quantize() {
    return Quantize(
        "Once upon a time there was a little girl who lived by the sea. "
        "\"Where is my boat?\" she asked. The boat was big and red.");
  }

  void ExpectNothingWritten() { EXPECT_TRUE(fs::is_empty(temp_.PathOf(""))); }

  std::unique_ptr<DamagedSource> source_;
  TempFolder temp_;
};

// Every option outside its range is named, and the ends of the ranges are inside.
TEST(QuantizeModelOptionsTest, ValidateNamesWhatIsOutOfRange) {
  const auto message_of = [](const std::function<void(QuantizeModelOptions&)>& change) {
    QuantizeModelOptions options{.output = "model"};
    change(options);
    const Status status = options.Validate();
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  const auto expect_named = [&](const char* name, auto change) {
    EXPECT_NE(message_of(change).find(name), std::string::npos) << name;
  };

  EXPECT_EQ(message_of([](QuantizeModelOptions&) {}), "");
  EXPECT_EQ(message_of([](QuantizeModelOptions& o) { o.tuning.code_rate = 0.0f; }), "");
  EXPECT_EQ(message_of([](QuantizeModelOptions& o) { o.tuning_bytes_max = 0; }), "");
  expect_named("output", [](QuantizeModelOptions& o) { o.output.clear(); });
  expect_named("int4_share", [](QuantizeModelOptions& o) { o.int4_share = 1.01; });
  expect_named("gap_share", [](QuantizeModelOptions& o) { o.gap_share = -0.1f; });
  expect_named("damping", [](QuantizeModelOptions& o) { o.damping = 0.0f; });
  expect_named("key_error_max", [](QuantizeModelOptions& o) { o.key_error_max = 0.0; });
  expect_named("value_error_max", [](QuantizeModelOptions& o) { o.value_error_max = 0.0; });
  expect_named("value_error_max", [](QuantizeModelOptions& o) { o.value_error_max = kNan; });
  expect_named("num_refinement_rounds",
               [](QuantizeModelOptions& o) { o.search.num_refinement_rounds = -1; });
  expect_named("tuning.num_steps", [](QuantizeModelOptions& o) { o.tuning.num_steps = -1; });
  expect_named("tuning.step_tokens", [](QuantizeModelOptions& o) { o.tuning.step_tokens = 0; });
  expect_named("tuning.rate", [](QuantizeModelOptions& o) { o.tuning.rate = 0.1f; });
  expect_named("tuning.rate", [](QuantizeModelOptions& o) { o.tuning.rate = kNan; });
  expect_named("tuning.code_rate", [](QuantizeModelOptions& o) { o.tuning.code_rate = 1.0f; });
  expect_named("tuning.code_rate", [](QuantizeModelOptions& o) { o.tuning.code_rate = -0.1f; });
  expect_named("tuning_bytes_max", [](QuantizeModelOptions& o) { o.tuning_bytes_max = -1; });
}

TEST_F(QuantizeInputTest, RefusesAShortCalibrationText) {
  const Status status = Quantize("Once upon a time.");

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
  EXPECT_NE(status.message().find("calibration"), std::string::npos) << status;
  EXPECT_NE(status.message().find("at least 32"), std::string::npos) << status;
  ExpectNothingWritten();
}

TEST_F(QuantizeInputTest, RefusesAVocabularyLargerThanTheEmbedding) {
  Vocabulary& vocabulary = source_->mutable_vocabulary();
  vocabulary.pieces.push_back("extra");
  vocabulary.types.push_back(TokenType::kNormal);
  vocabulary.scores.push_back(0.0f);

  const Status status = Quantize();

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
  EXPECT_NE(status.message().find("513"), std::string::npos) << status;
  ExpectNothingWritten();
}

TEST_F(QuantizeInputTest, RefusesNanInALayerNamingIt) {
  source_->damage_layer = [](int layer_idx, FloatLayer& layer) {
    if (layer_idx == 3) layer.down[77] = kNan;
  };

  const Status status = Quantize();

  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find("layer 3 down: value 77"), std::string::npos) << status;
  ExpectNothingWritten();
}

TEST_F(QuantizeInputTest, RefusesInfinityInTheEmbedding) {
  source_->damage_embedding = [](std::vector<float>& table) {
    table[5] = std::numeric_limits<float>::infinity();
  };

  const Status status = Quantize();

  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find("embedding: value 5"), std::string::npos) << status;
  ExpectNothingWritten();
}

TEST_F(QuantizeInputTest, RefusesTensorsOfAnotherShape) {
  source_->damage_layer = [](int, FloatLayer& layer) { layer.o.pop_back(); };

  const Status status = Quantize();

  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find("layer 0 o: has 4095 values, expected 4096"), std::string::npos)
      << status;
  ExpectNothingWritten();
}

TEST_F(QuantizeInputTest, RefusesOddShapes) {
  source_->mutable_config().ffn_size = 171;
  source_->mutable_config().num_kv_heads = 3;

  const Status status = Quantize();

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
  EXPECT_NE(status.message().find("ffn_size is odd"), std::string::npos) << status;
  EXPECT_NE(status.message().find("num_kv_heads"), std::string::npos) << status;
  ExpectNothingWritten();
}

TEST_F(QuantizeInputTest, AFullDiskIsAnErrorAndLeavesNothing) {
  const FileSizeLimit limit(64 << 10);  // The weights take three times as much.

  const Status status = Quantize();

  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find("model.safetensors"), std::string::npos) << status;
  ExpectNothingWritten();
}

// Hours of work are not lost with the last step of it.
TEST_F(QuantizeInputTest, KeepsWhatIsWholeWhenItCannotBeMeasured) {
  std::string sealed;
  source_->check_read = [&]() -> Status {
    for (const fs::directory_entry& entry : fs::directory_iterator(temp_.PathOf(""))) {
      if (fs::exists(entry.path() / "config.json")) sealed = entry.path().string();
    }
    return sealed.empty() ? Status::Ok() : Internal("the source is gone");
  };

  const Status status =
      QuantizeModel(
          *source_, backend_,
          {.output = temp_.PathOf("model"),
           .calibration = {.window_tokens = 64, .tokens_max = 1024, .held_out_tokens_max = 256},
           .tuning = {.num_steps = 0}},
          {})
          .status();

  EXPECT_EQ(status.code(), StatusCode::kInternal) << status;
  ASSERT_NE(sealed, "");
  EXPECT_NE(status.message().find("kept as "), std::string::npos) << status;
  EXPECT_NE(status.message().find(fs::path(sealed).filename().string()), std::string::npos);
  EXPECT_TRUE(Checkpoint::Open(sealed).ok());
}

TEST_F(QuantizeInputTest, ReportHoldsThePerplexityOfTextThatCalibrationDidNotSee) {
  const auto quantized = QuantizeModel(
      *source_, backend_,
      {.output = temp_.PathOf("model"),
       .calibration = {.window_tokens = 64, .tokens_max = 1024, .held_out_tokens_max = 256},
       .tuning = {.num_steps = 0}},
      {});
  ASSERT_TRUE(quantized.ok()) << quantized.status();

  const auto report = ReadAccuracyFile(temp_.PathOf("model"));

  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->layers.size(), 5u);
  ASSERT_TRUE(report->held_out.has_value());
  EXPECT_GT(report->held_out->num_predictions, 0);
  EXPECT_GT(report->held_out->source, 1.0);
  // Bits cost little, and cannot cost nothing.
  EXPECT_LT(std::abs(std::log(report->held_out->int8 / report->held_out->source)), 0.5);
  EXPECT_NE(report->held_out->int8, report->held_out->source);
  EXPECT_NE(report->held_out->mixed, report->held_out->int8);
}

TEST_F(QuantizeInputTest, HeldOutTokensAreTheTextsEndAndShareNothingWithCalibration) {
  const auto tokenizer = Tokenizer::Create(stories_->vocabulary());
  ASSERT_TRUE(tokenizer.ok());
  const std::string_view text = DefaultCalibrationText();
  const auto ids = (*tokenizer)->Encode(text, {.add_special = true, .parse_special = true});

  const auto split = SplitCalibrationText(
      **tokenizer, text, {.window_tokens = 100, .tokens_max = 1 << 20, .held_out_tokens_max = 200});

  ASSERT_TRUE(split.ok()) << split.status();
  std::vector<int> held_out;
  for (const auto& window : split->held_out) {
    held_out.insert(held_out.end(), window.begin(), window.end());
  }
  EXPECT_EQ(held_out, std::vector<int>(ids->end() - 200, ids->end()));
  size_t num_calibration = 0;
  for (const auto& window : split->windows) num_calibration += window.size();
  EXPECT_LE(num_calibration, ids->size() - 200);
  EXPECT_GT(num_calibration, ids->size() - 300);
  EXPECT_TRUE(split->tuning.empty());
}

TEST_F(QuantizeInputTest, TuningTokensLieBetweenThoseOfStatisticsAndTheHeldOut) {
  const auto tokenizer = Tokenizer::Create(stories_->vocabulary());
  ASSERT_TRUE(tokenizer.ok());
  const std::string_view text = DefaultCalibrationText();
  const auto ids = (*tokenizer)->Encode(text, {.add_special = true, .parse_special = true});
  const auto tuning_of = [&](int tuning_tokens_max) {
    const auto split = SplitCalibrationText(**tokenizer, text,
                                            {.window_tokens = 100,
                                             .tokens_max = 1000,
                                             .tuning_tokens_max = tuning_tokens_max,
                                             .held_out_tokens_max = 200});
    std::vector<int> tuning;
    for (const auto& window : split->tuning) {
      tuning.insert(tuning.end(), window.begin(), window.end());
    }
    return tuning;
  };

  EXPECT_EQ(tuning_of(500), std::vector<int>(ids->begin() + 1000, ids->begin() + 1500));
  EXPECT_LE(tuning_of(1 << 24).size(), ids->size() - 1200);
  EXPECT_GT(tuning_of(1 << 24).size(), ids->size() - 1300);
}

}  // namespace
}  // namespace comet
