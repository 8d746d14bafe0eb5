#include "engine/quantizer/model_tuner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/quantizer/cache_rounding.h"
#include "engine/quantizer/decoder_gradient.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/latent_codes.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/relative_error.h"
#include "engine/quantizer/served_product.h"
#include "engine/quantizer/two_level_weights.h"
#include "kernels/base/random.h"

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

std::vector<float> NormalValues(Random& random, size_t count, float deviation) {
  std::vector<float> values(count);
  for (float& value : values) value = deviation * random.NextNormal();
  return values;
}

QuantizedLinear MakeLinear(Random& random, int num_outputs, int num_inputs) {
  const std::vector<float> weights = NormalValues(
      random, static_cast<size_t>(num_outputs * num_inputs), 1.0f / std::sqrt(float(num_inputs)));
  const std::vector<float> importance(static_cast<size_t>(num_inputs), 1.0f);
  TwoLevelWeights quantized = QuantizeTwoLevel(weights, importance, 1);
  QuantizedLinear linear;
  linear.num_outputs = num_outputs;
  linear.num_inputs = num_inputs;
  linear.codes = std::move(quantized.codes);
  linear.steps = std::move(quantized.steps);
  linear.scale = std::move(quantized.scale);
  for (int k = 0; k < num_inputs; ++k) linear.gather.push_back((k + 3) % num_inputs);
  return linear;
}

QuantizedLayer MakeLayer(Random& random) {
  const ModelConfig config = SmallConfig();
  QuantizedLayer layer;
  layer.qkv = MakeLinear(random, config.qkv_size(), config.hidden_size);
  layer.qkv.bias = NormalValues(random, static_cast<size_t>(config.qkv_size()), 0.3f);
  layer.o = MakeLinear(random, config.hidden_size, config.q_size());
  layer.gate_up = MakeLinear(random, 2 * config.ffn_size, config.hidden_size);
  layer.down = MakeLinear(random, config.hidden_size, config.ffn_size);
  layer.down.gather.clear();
  layer.down.precision.num_int4_channels = 128;
  layer.down_hadamard = true;
  layer.kv = {.k_bits = 32, .v_bits = 32};  // Rounding has no slope to compare with.
  layer.input_norm = NormalValues(random, 16, 1.0f);
  layer.post_attention_norm = NormalValues(random, 16, 1.0f);
  return layer;
}

class ModelTuner : public testing::Test {
 protected:
  void SetUp() override {
    Result<Backend> backend = MakeBackend({.device = "cpu", .num_threads = 1});
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = std::move(backend).value();
  }

  // sum of out * direction, a scalar function of hidden and factors.
  double Project(const DifferentiableLayer& layer, const LayerFactors& factors,
                 std::vector<float> hidden, const std::vector<float>& direction) {
    LayerTape tape;
    EXPECT_TRUE(layer.Forward(factors, ActivationMode::kFloat, hidden, tape).ok());
    double sum = 0.0;
    for (size_t i = 0; i < hidden.size(); ++i) sum += double{hidden[i]} * double{direction[i]};
    return sum;
  }

  Backend backend_;
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

  QuantizedLinear* linears[] = {&quantized.qkv, &quantized.o, &quantized.gate_up, &quantized.down};
  for (size_t kind = 0; kind < d_weights.size(); ++kind) {
    QuantizedLinear& linear = *linears[kind];
    const size_t width = static_cast<size_t>(linear.num_inputs);
    int num_checked = 0;
    for (size_t i = 0; i < d_weights[kind].size(); i += 14) {  // Even: low nibbles.
      const uint8_t before = linear.codes[i / 2];
      if ((before & 0xf) == 7 || (before & 0xf) == 8) continue;  // The end of the codes.
      const auto output_with = [&](int change) {
        linear.codes[i / 2] = static_cast<uint8_t>((before & 0xf0) | ((before + change) & 0xf));
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

// [K, K], positive definite, with every channel tied to every other.
std::vector<float> RandomGram(Random& random, size_t size) {
  const std::vector<float> rows = NormalValues(random, 4 * size * size, 1.0f);
  std::vector<float> gram(size * size, 0.0f);
  for (size_t t = 0; t < rows.size(); t += size) {
    for (size_t i = 0; i < size; ++i) {
      for (size_t j = 0; j < size; ++j) gram[i * size + j] += rows[t + i] * rows[t + j];
    }
  }
  return gram;
}

// One code moved by its residual, the others as they are: a row's error is least there.
TEST_F(ModelTuner, ResidualsLeadToTheLeastErrorUnderTheGramMatrix) {
  constexpr size_t kChannels = 144;
  const QuantizedLinear linear = MakeLinear(random_, 2, kChannels);
  const std::vector<float> rounded = DequantizeInLayerOrder(linear, 1);
  std::vector<float> weights = rounded;
  for (float& weight : weights) weight += 0.002f * random_.NextNormal();
  const std::vector<float> gram = RandomGram(random_, kChannels);

  const std::vector<int8_t> residuals = CodeResiduals(backend_, linear, weights, gram, 2).value();

  int num_checked = 0;
  for (size_t i = 0; i < weights.size(); i += 5) {
    if (std::abs(residuals[i]) > 120) continue;  // Held to half a code.
    const size_t row = i / kChannels * kChannels;
    const double step = double{linear.scale[i / kChannels]} *
                        linear.steps[i / kChannels * 2 + (i % kChannels) / 128];
    const auto error_at = [&](double moved) {
      double error = 0.0;
      for (size_t j = 0; j < kChannels; ++j) {
        for (size_t k = 0; k < kChannels; ++k) {
          const auto off = [&](size_t c) {
            return double{weights[row + c]} - double{rounded[row + c]} -
                   (row + c == i ? moved * step : 0.0);
          };
          error += off(j) * double{gram[j * kChannels + k]} * off(k);
        }
      }
      return error;
    };
    const double best = residuals[i] / 254.0;
    EXPECT_LT(error_at(best), error_at(best + 0.02)) << i;
    EXPECT_LT(error_at(best), error_at(best - 0.02)) << i;
    ++num_checked;
  }
  EXPECT_GT(num_checked, 20);
}

// Latents start within the cells of their codes, and move down the gradient.
TEST_F(ModelTuner, LatentCodesStartAtTheCodesAndFollowTheGradient) {
  const QuantizedLinear linear = MakeLinear(random_, 6, 144);
  std::vector<float> weights = DequantizeInOrder({.num_outputs = 6,
                                                  .num_inputs = 144,
                                                  .codes = linear.codes,
                                                  .steps = linear.steps,
                                                  .scale = linear.scale},
                                                 false, 1);
  const std::vector<float> gradient = NormalValues(random_, weights.size(), 1.0f);
  const std::vector<float> rounded = weights;
  for (float& weight : weights) weight += 0.1f * random_.NextNormal();
  std::vector<float> gram(144 * 144, 0.0f);
  for (size_t k = 0; k < 144; ++k) gram[k * 145] = 1.0f;
  const std::vector<int8_t> residuals = CodeResiduals(backend_, linear, weights, gram, 2).value();
  const auto tuned = [&](float rate, int num_threads) {
    QuantizedLinear moved = linear;
    moved.gather.clear();
    LatentCodes latents(moved, residuals, num_threads);
    for (int step = 1; step <= 4; ++step) {
      latents.Step(gradient, {.step = step, .rate = rate, .num_threads = num_threads}, moved);
    }
    return moved;
  };

  EXPECT_EQ(tuned(0.0f, 1).codes, linear.codes);
  EXPECT_EQ(tuned(0.2f, 3).codes, tuned(0.2f, 1).codes);
  const std::vector<float> moved = DequantizeInOrder(tuned(0.2f, 1), false, 1);
  double along = 0.0;
  for (size_t i = 0; i < moved.size(); ++i) {
    along += double{moved[i] - rounded[i]} * double{gradient[i]};
    EXPECT_GE((rounded[i] - moved[i]) * gradient[i], 0.0f) << i;
  }
  EXPECT_LT(along, 0.0);
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
  QuantizedLinear linear = MakeLinear(random_, kOutputs, kChannels);
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
      EXPECT_TRUE(served.Run(backend_, mode, inputs, product).ok());
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

// What is no finite number moves nothing.
TEST_F(ModelTuner, RefusesADivergenceThatIsNoNumber) {
  SelfTask self;
  MakeSelfTask(backend_, random_, self);
  self.task.float_outputs[0][0] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<uint8_t> codes = self.layers[0].down.codes;

  const Result<TuningResult> result =
      TuneModel(backend_, SmallConfig(), self.task, {.num_steps = 1, .step_tokens = 15},
                self.layers, self.final_norm, {});

  EXPECT_EQ(result.status().code(), StatusCode::kFailedPrecondition);
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
