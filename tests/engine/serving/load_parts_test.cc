#include "engine/runtime/load_parts.h"

#include <gtest/gtest.h>

#include <string>

#include "engine/model/model_source.h"
#include "engine/quantizer/model_shape.h"
#include "tests/engine/test_data.h"

namespace comet {
namespace {

SyntheticModel SmallModel() {
  const Result<ModelShape> shape =
      ReadModelShape(EnvironmentOr("COMET_SOURCE_DIR", ".") + "/configs/models/smollm2-135m.json");
  EXPECT_TRUE(shape.ok()) << shape.status();
  SyntheticModel model{.config = shape->config};
  model.config.num_layers = 1;
  return model;
}

// Such is the daemon's accuracy gate: it judges what will be served.
TEST(LoadParts, AsksForTheActivationsThatAutoHasBecome) {
  LoadOptions options;
  options.synthetic = SmallModel();
  options.backend.device = "reference";
  std::string asked;
  options.check_activations = [&](const std::string& activation_bits) {
    asked = activation_bits;
    return FailedPrecondition("not this one");
  };

  const Result<LoadedParts> loaded = LoadParts(options);

  EXPECT_EQ(asked, "8");
  EXPECT_EQ(loaded.status(), FailedPrecondition("not this one"));
}

TEST(LoadParts, AutoIsTheMixWhereTheDeviceMultipliesInt4) {
  const Result<ModelSource> source = ModelSource::Make(SmallModel());
  ASSERT_TRUE(source.ok()) << source.status();

  const Precision mixed = source->ChoosePrecision("auto", "auto", true).value();
  const Precision bytes = source->ChoosePrecision("auto", "auto", false).value();

  EXPECT_EQ(mixed.activations, ActivationMode::kMixed);
  EXPECT_EQ(bytes.activations, ActivationMode::kInt8);
}

}  // namespace
}  // namespace comet
