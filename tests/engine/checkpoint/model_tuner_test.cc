#include "engine/quantizer/model_tuner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/quantizer/cache_rounding.h"
#include "engine/quantizer/decoder_gradient.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/host_layer.h"
#include "engine/quantizer/layer_linears.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/relative_error.h"
#include "engine/quantizer/served_product.h"
#include "kernels/base/packed_codes.h"
#include "kernels/base/random.h"
#include "tests/engine/checkpoint/random_linear.h"
#include "tests/engine/cpu_backend_test.h"

namespace comet {
namespace {

constexpr int kTokens = 5;

ModelConfig SmallConfig() {
  ModelConfig config;
  config.hidden_size = 16;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.rotary_dim = 8;
  config.ffn_size = 144;  // A block of INT4 channels and some more.
  config.vocab_size = 11;
  return config;
}

QuantizedLayer MakeLayer(Random& random) {
  const ModelConfig config = SmallConfig();
  QuantizedLayer layer;
  layer.qkv = MakeRandomLinear(random, config.qkv_size(), config.hidden_size);
  layer.qkv.bias = NormalValues(random, static_cast<size_t>(config.qkv_size()), 0.3f);
  layer.o = MakeRandomLinear(random, config.hidden_size, config.q_size());
  layer.gate_up = MakeRandomLinear(random, 2 * config.ffn_size, config.hidden_size);
  layer.down = MakeRandomLinear(random, config.hidden_size, config.ffn_size);
  layer.down.gather.clear();
  layer.down.precision.num_int4_channels = 128;
  layer.down_hadamard = true;
  layer.kv = {.k_bits = 32, .v_bits = 32};  // Rounding has no slope to compare with.
  layer.input_norm = NormalValues(random, 16, 1.0f);
  layer.post_attention_norm = NormalValues(random, 16, 1.0f);
  return layer;
}

class ModelTuner : public CpuBackendTest<1> {
 protected:
  // sum of out * direction, a scalar function of hidden and factors.
  double Project(const DifferentiableLayer& layer, const LayerFactors& factors,
                 std::vector<float> hidden, const std::vector<float>& direction) {
    LayerTape tape;
    EXPECT_TRUE(layer.Forward(factors, ActivationMode::kFloat, hidden, tape).ok());
    double sum = 0.0;
    for (size_t i = 0; i < hidden.size(); ++i) sum += double{hidden[i]} * double{direction[i]};
    return sum;
  }

  Random random_{5};
};

TEST_F(ModelTuner, GradientsAreThoseOfFiniteDifferences) {
  const DifferentiableLayer layer =
      DifferentiableLayer::Make(backend_, SmallConfig(), MakeLayer(random_),
                                {.window_tokens_max = kTokens, .rounds_activations = false})
          .value();
  LayerFactors factors = layer.UnitFactors();
  for (std::vector<float>& scale : factors.scale) {
    for (float& factor : scale) factor = random_.NextFloat(0.8f, 1.2f);
  }
  std::vector<float> hidden = NormalValues(random_, kTokens * 16, 1.0f);
  const std::vector<float> direction = NormalValues(random_, kTokens * 16, 1.0f);
  LayerTape tape;
  std::vector<float> output = hidden;
  ASSERT_TRUE(layer.Forward(factors, ActivationMode::kFloat, output, tape).ok());
  std::vector<float> d_hidden = direction;
  LayerFactors gradient = layer.UnitFactors();
  for (std::vector<float>& scale : gradient.scale) std::ranges::fill(scale, 0.0f);
  std::ranges::fill(gradient.input_norm, 0.0f);
  std::ranges::fill(gradient.post_attention_norm, 0.0f);

  ASSERT_TRUE(layer.Backward(factors, tape, d_hidden, gradient, nullptr).ok());

  const auto expect_slope = [&](float& value, float expected, const char* name, size_t i) {
    constexpr float kStep = 4e-3f;
    const float before = value;
    value = before + kStep;
    const double high = Project(layer, factors, hidden, direction);
    value = before - kStep;
    const double low = Project(layer, factors, hidden, direction);
    value = before;
    const double slope = (high - low) / (2.0 * double{kStep});
    EXPECT_NEAR(slope, double{expected}, 5e-3 + 5e-3 * std::abs(slope)) << name << " " << i;
  };
  for (size_t kind = 0; kind < factors.scale.size(); ++kind) {
    for (size_t i = 0; i < factors.scale[kind].size(); i += 3) {
      expect_slope(factors.scale[kind][i], gradient.scale[kind][i], "scale", i + 100 * kind);
    }
  }
  for (size_t i = 0; i < 16; ++i) {
    expect_slope(factors.input_norm[i], gradient.input_norm[i], "input norm", i);
    expect_slope(factors.post_attention_norm[i], gradient.post_attention_norm[i], "second norm", i);
  }
  for (size_t i = 0; i < hidden.size(); i += 2) expect_slope(hidden[i], d_hidden[i], "hidden", i);
}

// A code is moved by one: little enough, of a sum of many, for the slope of what is smooth.
TEST_F(ModelTuner, WeightGradientsAreThoseOfFiniteDifferences) {
  QuantizedLayer quantized = MakeLayer(random_);
  const DifferentiableLayerOptions options{.window_tokens_max = kTokens,
                                           .rounds_activations = false};
  DifferentiableLayer layer =
      DifferentiableLayer::Make(backend_, SmallConfig(), quantized, options).value();
  LayerFactors factors = layer.UnitFactors();
  for (std::vector<float>& scale : factors.scale) {
    for (float& factor : scale) factor = random_.NextFloat(0.8f, 1.2f);
  }
  std::vector<float> hidden = NormalValues(random_, kTokens * 16, 1.0f);
  const std::vector<float> direction = NormalValues(random_, kTokens * 16, 1.0f);
  LayerTape tape;
  std::vector<float> output = hidden;
  ASSERT_TRUE(layer.Forward(factors, ActivationMode::kFloat, output, tape).ok());
  std::vector<float> d_hidden = direction;
  LayerFactors gradient = layer.UnitFactors();
  WeightGradients d_weights = layer.NoWeightGradients();

  ASSERT_TRUE(layer.Backward(factors, tape, d_hidden, gradient, &d_weights).ok());

  const auto linears = LinearsOf(quantized);
  for (size_t kind = 0; kind < d_weights.size(); ++kind) {
    QuantizedLinear& linear = *linears[kind];
    const size_t width = static_cast<size_t>(linear.num_inputs);
    int num_checked = 0;
    for (size_t i = 0; i < d_weights[kind].size(); i += 14) {  // Even: low nibbles.
      const uint8_t before = linear.codes[i / 2];
      if ((before & 0xf) == 7 || (before & 0xf) == 8) continue;  // The end of the codes.
      const auto output_with = [&](int change) {
        linear.codes[i / 2] = before;
        SetCode(linear.codes.data(), i, CodeAt(linear.codes.data(), i) + change);
        EXPECT_TRUE(layer.SetCodes(quantized).ok());
        return Project(layer, factors, hidden, direction);
      };
      const size_t block =
          i / width * (linear.steps.size() / linear.scale.size()) + i % width / 128;
      const double step = double{linear.scale[i / width]} * linear.steps[block];
      const double slope = (output_with(1) - output_with(-1)) / (2.0 * step);
      linear.codes[i / 2] = before;

      EXPECT_NEAR(slope, double{d_weights[kind][i]}, 0.05 + 0.05 * std::abs(slope))
          << kind << " " << i;
      ++num_checked;
    }
    EXPECT_GT(num_checked, 10);
  }
}

// With activations rounded too: a row's weights times their gradient is its scale's times its
// factor, as both are the gradient on the same product. What is left are the gradient's 8 bits. Of
// down: the other linears' inputs, of 8 bits, are too near their unrounded ones to tell.
TEST_F(ModelTuner, GradientsOfWeightsAndScalesSeeTheSameInputs) {
  const QuantizedLayer quantized = MakeLayer(random_);
  const DifferentiableLayer layer =
      DifferentiableLayer::Make(backend_, SmallConfig(), quantized, {.window_tokens_max = kTokens})
          .value();
  LayerFactors factors = layer.UnitFactors();
  for (std::vector<float>& scale : factors.scale) {
    for (float& factor : scale) factor = random_.NextFloat(0.8f, 1.2f);
  }
  std::vector<float> hidden = NormalValues(random_, kTokens * 16, 1.0f);
  std::vector<float> d_hidden = NormalValues(random_, kTokens * 16, 1.0f);
  LayerTape tape;
  ASSERT_TRUE(layer.Forward(factors, ActivationMode::kMixed, hidden, tape).ok());
  LayerFactors gradient = layer.UnitFactors();
  for (std::vector<float>& scale : gradient.scale) std::ranges::fill(scale, 0.0f);
  WeightGradients d_weights = layer.NoWeightGradients();

  ASSERT_TRUE(layer.Backward(factors, tape, d_hidden, gradient, &d_weights).ok());

  const auto linears = LinearsOf(quantized);
  for (size_t kind = 0; kind < linears.size(); ++kind) {
    const std::vector<float> weights = DequantizeInLayerOrder(*linears[kind], 1);
    const size_t width = static_cast<size_t>(linears[kind]->num_inputs);
    double off = 0.0;
    double all = 0.0;
    for (size_t n = 0; n < factors.scale[kind].size(); ++n) {
      double along = 0.0;
      for (size_t k = n * width; k < (n + 1) * width; ++k) {
        along += double{weights[k]} * double{d_weights[kind][k]};
      }
      const double expected = double{factors.scale[kind][n]} * double{gradient.scale[kind][n]};
      off += (along - expected) * (along - expected);
      all += expected * expected;
    }
    EXPECT_LT(std::sqrt(off / all), 0.02) << kind;
  }
}

TEST(CacheRounding, ValuesStayWithinHalfAStep) {
  Random random(8);
  std::vector<float> row = NormalValues(random, 64, 1.0f);
  const std::vector<float> original = row;
  const auto [low, high] = std::ranges::minmax(original);

  RoundThroughCache(row, 4);

  for (size_t i = 0; i < row.size(); ++i) {
    EXPECT_NEAR(row[i], original[i], 0.51f * (high - low) / 15.0f);
  }
  std::ranges::sort(row);
  row.erase(std::unique(row.begin(), row.end()), row.end());
  EXPECT_LE(row.size(), 16u);
}

TEST(CacheRounding, HadamardIsItsOwnInverse) {
  Random random(9);
  const std::vector<float> original = NormalValues(random, 64, 1.0f);
  std::vector<float> row = original;

  HadamardRow(row);
  EXPECT_NEAR(row[0], std::accumulate(original.begin(), original.end(), 0.0f) / 8.0f, 1e-5f);
  HadamardRow(row);

  for (size_t i = 0; i < row.size(); ++i) EXPECT_NEAR(row[i], original[i], 1e-5f);
}

// The product is that of the weights in the producer's order, off by the inputs' steps alone.
TEST_F(ModelTuner, ServedProductsReadTheProducersOrder) {
  constexpr int kChannels = 192;
  constexpr int kOutputs = 8;
  QuantizedLinear linear = MakeRandomLinear(random_, kOutputs, kChannels);
  linear.precision = {.num_int4_channels = 128, .clip = 1.0f};
  const std::vector<float> rows = NormalValues(random_, 4 * kChannels, 1.0f);
  for (const bool hadamard : {false, true}) {
    const HostRows exact =
        MultiplyByTransposed(backend_, rows, DequantizeInOrder(linear, hadamard, 1), kChannels)
            .value();
    const ServedProduct served = ServedProduct::Make(backend_, linear, hadamard).value();
    const auto error_of = [&](ActivationMode mode) {
      std::vector<float> inputs = rows;
      HostRows product;
      served.ToLayer(2, inputs);
      EXPECT_TRUE(served.Run(backend_, mode, 2, inputs, product).ok());
      const HostRows of_rounded =
          MultiplyByTransposed(backend_, inputs, DequantizeInLayerOrder(linear, 1), kChannels)
              .value();
      EXPECT_LT(RelativeError(product, of_rounded), 1e-5);
      return RelativeError(product, exact);
    };

    const double int8_error = error_of(ActivationMode::kInt8);
    const double mixed_error = error_of(ActivationMode::kMixed);

    EXPECT_LT(int8_error, 0.02);
    EXPECT_GT(mixed_error, int8_error);
    EXPECT_LT(mixed_error, 0.3);
  }
}

// A model of two layers and what it says itself of three windows.
struct SelfTask {
  std::vector<QuantizedLayer> layers;
  std::vector<float> head;
  Int8Rows quantized_head;
  std::vector<float> final_norm = std::vector<float>(16, 1.0f);
  TuningTask task;
};

void MakeSelfTask(Backend& backend, Random& random, SelfTask& self) {
  self.layers = {MakeLayer(random), MakeLayer(random)};
  self.head = NormalValues(random, 11 * 16, 0.5f);
  self.quantized_head = QuantizeInt8Rows(self.head, 16, 1);
  self.task = {.float_norm = self.final_norm,
               .float_head = self.head,
               .quantized_head = &self.quantized_head};
  for (int window = 0; window < 3; ++window) {
    std::vector<float> hidden = NormalValues(random, kTokens * 16, 1.0f);
    self.task.inputs.emplace_back(hidden.begin(), hidden.end());
    for (const QuantizedLayer& layer : self.layers) {
      const DifferentiableLayer exact =
          DifferentiableLayer::Make(backend, SmallConfig(), layer,
                                    {.window_tokens_max = kTokens, .rounds_activations = false})
              .value();
      LayerTape tape;
      ASSERT_TRUE(exact.Forward(exact.UnitFactors(), ActivationMode::kFloat, hidden, tape).ok());
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
      TuneModel(backend_, SmallConfig(), self.task,
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
        TuneModel(backend_, SmallConfig(), self.task,
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
          DifferentiableLayer::Make(backend, SmallConfig(), layer, {.window_tokens_max = kTokens})
              .value();
      LayerTape tape;
      EXPECT_TRUE(made.Forward(made.UnitFactors(), mode, hidden, tape).ok());
    }
    const auto normed = [&](const HostRows& rows) {
      return NormRows(rows, self.final_norm, ones, SmallConfig().rms_norm_epsilon, 1);
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
  return sum / (3.0 * kTokens);
}

TEST_F(ModelTuner, TunesThroughMixedActivations) {
  SelfTask self;
  MakeSelfTask(backend_, random_, self);
  const double mixed = DivergenceThrough(backend_, self, ActivationMode::kMixed);
  const double int8 = DivergenceThrough(backend_, self, ActivationMode::kInt8);

  const Result<TuningResult> result =
      TuneModel(backend_, SmallConfig(), self.task, {.num_steps = 1, .step_tokens = 15},
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
    return TuneModel(backend_, SmallConfig(), self.task, {.num_steps = 1, .step_tokens = 15},
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
  const ModelConfig config = SmallConfig();
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
