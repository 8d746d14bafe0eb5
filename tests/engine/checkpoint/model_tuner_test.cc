#include "engine/quantizer/model_tuner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "engine/quantizer/decoder_gradient.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/host_layer.h"
#include "engine/quantizer/served_product.h"
#include "tests/engine/checkpoint/small_layer.h"
#include "tests/engine/cpu_backend_fixture.h"
#include "tests/engine/normal_values.h"

namespace comet {
namespace {

class ModelTuner : public CpuBackendTest<1> {
 protected:
  Random random_{5};
};

// A model of two layers and what it says itself of three windows.
struct SelfTask {
  std::vector<QuantizedLayer> layers;
  std::vector<float> head;
  Int8Rows quantized_head;
  std::vector<float> final_norm = std::vector<float>(16, 1.0f);
  TuningTask task;
};

void MakeSelfTask(Backend& backend, Random& random, SelfTask& self) {
  self.layers = {MakeSmallLayer(random), MakeSmallLayer(random)};
  self.head = NormalValues(random, 11 * 16, 0.5f);
  self.quantized_head = QuantizeInt8Rows(self.head, 16, 1);
  self.task = {.float_norm = self.final_norm,
               .float_head = self.head,
               .quantized_head = &self.quantized_head};
  for (int window = 0; window < 3; ++window) {
    std::vector<float> hidden = NormalValues(random, kSmallWindowTokens * 16, 1.0f);
    self.task.inputs.emplace_back(hidden.begin(), hidden.end());
    for (const QuantizedLayer& layer : self.layers) {
      const DifferentiableLayer exact =
          DifferentiableLayer::Make(
              backend, SmallLayerConfig(), layer,
              {.window_tokens_max = kSmallWindowTokens, .mode = ActivationMode::kFloat})
              .value();
      LayerTape tape;
      ASSERT_TRUE(exact.Forward(exact.UnitFactors(), hidden, tape).ok());
    }
    self.task.float_outputs.emplace_back(hidden.begin(), hidden.end());
  }
}

// A model whose scales have been spoilt finds its way back to its own predictions.
TEST_F(ModelTuner, BringsPredictionsNearerTheFloatModels) {
  SelfTask self;
  MakeSelfTask(backend_, random_, self);
  for (QuantizedLayer& layer : self.layers) {
    for (float& scale : layer.o.scale) scale *= random_.NextFloat(0.7f, 1.4f);
    for (float& scale : layer.down.scale) scale *= random_.NextFloat(0.7f, 1.4f);
  }
  std::vector<float> tuned_norm = self.final_norm;
  int num_reports = 0;

  const Result<TuningResult> result =
      TuneModel(backend_, SmallLayerConfig(), self.task,
                {.num_steps = 60, .step_tokens = 15, .rate = 0.02f, .code_rate = 0.0f}, self.layers,
                tuned_norm, [&] { ++num_reports; });

  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(num_reports, 60);
  EXPECT_FALSE(result->has_codes);
  EXPECT_LT(result->last_loss, 0.3 * result->first_loss);
  for (const float scale : self.layers[0].o.scale) EXPECT_GT(scale, 0.0f);
}

// One whose codes have been spoilt, by its codes: scales and norms hardly move.
TEST_F(ModelTuner, BringsSpoiltCodesNearerTheFloatModels) {
  SelfTask self;
  MakeSelfTask(backend_, random_, self);
  for (QuantizedLayer& layer : self.layers) {
    for (QuantizedLinear* linear : {&layer.o, &layer.down}) {
      for (size_t i = 0; i < linear->codes.size(); i += 3) {
        linear->codes[i] ^= 0x4;  // One code in six, by four.
      }
    }
  }
  const auto tune = [&](float code_rate) {
    std::vector<QuantizedLayer> layers = self.layers;
    std::vector<float> norm = self.final_norm;
    const TuningResult result =
        TuneModel(backend_, SmallLayerConfig(), self.task,
                  {.num_steps = 60, .step_tokens = 15, .rate = 1e-6f, .code_rate = code_rate},
                  layers, norm, {})
            .value();
    EXPECT_EQ(layers[0].down.codes == self.layers[0].down.codes, code_rate == 0.0f);
    return result;
  };

  const TuningResult moved = tune(0.05f);
  const TuningResult held = tune(0.0f);

  EXPECT_TRUE(moved.has_codes);
  EXPECT_FALSE(held.has_codes);
  EXPECT_LT(moved.last_loss, 0.5 * held.last_loss);
}

// Mean divergence of the quantised model's predictions, of the three windows, in one mode.
double DivergenceThrough(Backend& backend, const SelfTask& self, ActivationMode mode) {
  const std::vector<float> ones(16, 1.0f);
  const Int8Weights head{.codes = {self.quantized_head.codes.data(), DType::kI8, {11, 16}},
                         .scale = {self.quantized_head.scale.data(), DType::kF32, {11}}};
  const auto packed = backend.ops->PackLinear(head).value();
  double sum = 0.0;
  for (size_t window = 0; window < 3; ++window) {
    HostRows hidden = self.task.inputs[window];
    for (const QuantizedLayer& layer : self.layers) {
      const DifferentiableLayer made =
          DifferentiableLayer::Make(backend, SmallLayerConfig(), layer,
                                    {.window_tokens_max = kSmallWindowTokens, .mode = mode})
              .value();
      LayerTape tape;
      EXPECT_TRUE(made.Forward(made.UnitFactors(), hidden, tape).ok());
    }
    const auto normed = [&](const HostRows& rows) {
      return NormRows(rows, self.final_norm, ones, SmallLayerConfig().rms_norm_epsilon, 1);
    };
    HostRows logits;
    EXPECT_TRUE(
        MultiplyCodes(backend, {.mode = ActivationMode::kInt8}, normed(hidden), *packed, logits)
            .ok());
    const HostRows wanted =
        MultiplyByTransposed(backend, normed(self.task.float_outputs[window]), self.head, 16)
            .value();
    for (size_t first = 0; first < logits.size(); first += 11) {
      const auto log_sum = [&](const HostRows& rows) {
        double total = 0.0;
        for (size_t i = first; i < first + 11; ++i) total += std::exp(double{rows[i]});
        return std::log(total);
      };
      for (size_t i = first; i < first + 11; ++i) {
        const double log_p = double{wanted[i]} - log_sum(wanted);
        sum += std::exp(log_p) * (log_p - double{logits[i]} + log_sum(logits));
      }
    }
  }
  return sum / (3.0 * kSmallWindowTokens);
}

TEST_F(ModelTuner, TunesThroughMixedActivations) {
  SelfTask self;
  MakeSelfTask(backend_, random_, self);
  const double mixed = DivergenceThrough(backend_, self, ActivationMode::kMixed);
  const double int8 = DivergenceThrough(backend_, self, ActivationMode::kInt8);

  const Result<TuningResult> result =
      TuneModel(backend_, SmallLayerConfig(), self.task, {.num_steps = 1, .step_tokens = 15},
                self.layers, self.final_norm, {});

  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_NEAR(result->first_loss, mixed, 1e-3 * mixed);
  EXPECT_GT(std::abs(mixed - int8), 0.05 * mixed);
}

// What is no finite number moves nothing.
TEST_F(ModelTuner, RefusesADivergenceThatIsNoNumber) {
  SelfTask self;
  MakeSelfTask(backend_, random_, self);
  const std::vector<uint8_t> codes = self.layers[0].down.codes;
  const WindowRows outputs = self.task.float_outputs;
  const auto tune = [&] {
    return TuneModel(backend_, SmallLayerConfig(), self.task, {.num_steps = 1, .step_tokens = 15},
                     self.layers, self.final_norm, {})
        .status();
  };

  self.task.float_outputs[0][0] = std::numeric_limits<float>::quiet_NaN();
  const Status of_target = tune();
  self.task.float_outputs = outputs;
  self.task.inputs[0][0] = std::numeric_limits<float>::quiet_NaN();
  const Status of_input = tune();

  for (const Status& status : {of_target, of_input}) {
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
    EXPECT_NE(status.message().find("divergence"), std::string::npos) << status;
  }
  EXPECT_EQ(self.layers[0].down.codes, codes);
}

// As many as the memory has room for: codes and factors, factors, nothing.
TEST(TuningSize, LeavesOutWhatDoesNotFit) {
  const ModelConfig config = SmallLayerConfig();
  const TuningOptions options;
  const int64_t all = SizeOfTuning(config, 512, options, int64_t{1} << 40).num_bytes;
  const TuningSize factors = SizeOfTuning(config, 512, options, all - 1);
  const TuningSize nothing = SizeOfTuning(config, 512, options, factors.num_bytes - 1);

  EXPECT_TRUE(SizeOfTuning(config, 512, options, all).has_codes);
  EXPECT_FALSE(factors.has_codes);
  EXPECT_GT(factors.num_bytes, 0);
  EXPECT_LT(factors.num_bytes, all);
  EXPECT_EQ(nothing.num_bytes, 0);
  EXPECT_EQ(SizeOfTuning(config, 512, {.num_steps = 0}, all).num_bytes, 0);
  EXPECT_FALSE(SizeOfTuning(config, 512, {.code_rate = 0.0f}, all).has_codes);
}

TEST(TuningSteps, SeeEachWindowOnce) {
  const TuningOptions options{.num_steps = 31, .step_tokens = 2048};

  EXPECT_EQ(StepsOfOneEpoch(options, 1000, 512), 31);
  EXPECT_EQ(StepsOfOneEpoch(options, 20, 512), 5);
  EXPECT_EQ(StepsOfOneEpoch(options, 1, 512), 1);
  EXPECT_EQ(StepsOfOneEpoch({.num_steps = 0}, 20, 512), 0);
}

}  // namespace
}  // namespace comet
