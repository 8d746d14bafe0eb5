#include "engine/runtime/load_parts.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "engine/model/model_source.h"
#include "engine/quantizer/model_shape.h"
#include "tests/engine/test_data.h"

namespace comet {
namespace {

SyntheticModel ModelOf(const std::string& shape_name) {
  const Result<ModelShape> shape = ReadModelShape(EnvironmentOr("COMET_SOURCE_DIR", ".") +
                                                  "/configs/models/" + shape_name + ".json");
  EXPECT_TRUE(shape.ok()) << shape.status();
  return {.config = shape->config, .has_qkv_bias = shape->has_qkv_bias};
}

SyntheticModel SmallModel() {
  SyntheticModel model = ModelOf("smollm2-135m");
  model.config.num_layers = 1;
  model.config.vocab_size = 8192;
  model.config.bos_id = -1;
  model.config.eos_ids.clear();
  return model;
}

LoadOptions OptionsOf(const SyntheticModel& model, const std::string& device) {
  LoadOptions options;
  options.synthetic = model;
  options.backend.device = device;
  options.engine.context_length_max = 256;
  options.engine.scheduler.step_tokens_max = 128;
  options.engine.scheduler.running_sequences_max = 8;
  options.engine.kv_cache.bytes_max = 4 << 20;
  return options;
}

// What was planned before the load is what the model holds after it.
void ExpectPlanHolds(const LoadOptions& options) {
  const Result<LoadedParts> loaded = LoadParts(options);
  ASSERT_TRUE(loaded.ok()) << loaded.status();

  const ModelMemory held = loaded->parts.model->memory();

  const auto near = [](int64_t bytes) { return 0.01 * static_cast<double>(bytes) + 65536; };
  const MemoryPlan& plan = loaded->memory;
  EXPECT_NEAR(held.weights_bytes, plan.weights_bytes, near(plan.weights_bytes));
  EXPECT_NEAR(held.activations_bytes, plan.activations_bytes, near(plan.activations_bytes));
  EXPECT_EQ(held.kv_page_bytes, plan.kv_page_bytes);
}

TEST(LoadParts, PlansWhatATiedModelHolds) { ExpectPlanHolds(OptionsOf(SmallModel(), "cpu")); }

TEST(LoadParts, PlansWhatAnUntiedModelHolds) {
  SyntheticModel model = SmallModel();
  model.config.tied_embeddings = false;

  ExpectPlanHolds(OptionsOf(model, "cpu"));
}

TEST(LoadParts, PlansWhatAFloatModelHolds) {
  LoadOptions options = OptionsOf({}, "cpu");
  options.synthetic.reset();
  options.model = TestDataPath("models/stories260K.gguf");
  COMET_REQUIRE_FILE(options.model);

  ExpectPlanHolds(options);
}

TEST(LoadParts, ResolvesWhatIsLeftToModelAndDevice) {
  LoadOptions options = OptionsOf(SmallModel(), "reference");
  options.engine = {};
  options.engine.kv_cache.bytes_max = 64 << 20;

  const Result<LoadedParts> loaded = LoadParts(options);

  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const int context = options.synthetic->config.context_length_max;
  EXPECT_EQ(loaded->config.context_length_max, context);
  EXPECT_EQ(loaded->config.scheduler.step_tokens_max, 512);
  EXPECT_EQ(loaded->limits.step_tokens_max, 512);
  EXPECT_EQ(loaded->limits.sequences_max, 64);
  EXPECT_EQ(loaded->limits.logits_rows_max, 64);
  EXPECT_EQ(loaded->limits.pages_per_sequence_max, (context + kPageTokens - 1) / kPageTokens);
  EXPECT_EQ(loaded->limits.num_pages, (64 << 20) / loaded->memory.kv_page_bytes);
  EXPECT_EQ(loaded->limits.num_pages, loaded->memory.num_pages);
}

TEST(LoadParts, RefusesAContextThatTheModelWasNotMadeFor) {
  LoadOptions options = OptionsOf(SmallModel(), "reference");
  options.engine.context_length_max = options.synthetic->config.context_length_max + 1;

  const Status status = LoadParts(options).status();

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
  EXPECT_NE(status.message().find("context length is"), std::string::npos) << status;
}

TEST(LoadParts, RefusesATemplatesNameBesideAFile) {
  LoadOptions options = OptionsOf(SmallModel(), "reference");
  options.chat_template_file = "a.jinja";
  options.chat_template_name = "rag";

  const Status status = LoadParts(options).status();

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
  EXPECT_NE(status.message().find("a.jinja"), std::string::npos) << status;
}

// Were it loaded first, the test would take 40 GB.
TEST(LoadParts, RefusesWhatDoesNotFitBeforeItIsLoaded) {
  LoadOptions options = OptionsOf(ModelOf("llama-3-70b"), "reference");
  options.engine.kv_cache.bytes_max = int64_t{1} << 60;

  const Status status = LoadParts(options).status();

  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find("MiB weights"), std::string::npos) << status;
}

// Such is the daemon's accuracy gate: it judges what will be served.
TEST(LoadParts, AsksForTheActivationsThatAutoHasBecome) {
  LoadOptions options = OptionsOf(SmallModel(), "reference");
  std::string asked;
  options.check_activations = [&](const std::string& activation_bits) {
    asked = activation_bits;
    return FailedPrecondition("not this one");
  };

  const Result<LoadedParts> loaded = LoadParts(options);

  EXPECT_EQ(asked, "8");
  EXPECT_EQ(loaded.status(), FailedPrecondition("not this one"));
}

TEST(ModelSource, AutoIsTheMixWhereTheDeviceMultipliesInt4) {
  const Result<ModelSource> source = ModelSource::Make(SmallModel());
  ASSERT_TRUE(source.ok()) << source.status();

  const Precision mixed = source->ChoosePrecision("auto", "auto", true).value();
  const Precision bytes = source->ChoosePrecision("auto", "auto", false).value();

  EXPECT_EQ(mixed.activations, ActivationMode::kMixed);
  EXPECT_EQ(bytes.activations, ActivationMode::kInt8);
}

TEST(ModelSource, TellsWhatCannotBeReachedFromWhatIsNotThere) {
  std::string folder = testing::TempDir() + "comet_model_source_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  std::filesystem::create_symlink("loop", folder + "/loop");

  const Status looped = ModelSource::Open(folder + "/loop").status();
  const Status missing = ModelSource::Open(folder + "/none").status();

  EXPECT_EQ(looped.code(), StatusCode::kFailedPrecondition) << looped;
  EXPECT_EQ(looped.message().find("does not exist"), std::string::npos) << looped;
  EXPECT_EQ(missing.code(), StatusCode::kNotFound) << missing;
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace comet
