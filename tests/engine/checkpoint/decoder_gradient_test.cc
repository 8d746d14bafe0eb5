#include "engine/quantizer/decoder_gradient.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/quantizer/float_product.h"
#include "engine/quantizer/layer_linears.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/relative_error.h"
#include "engine/quantizer/served_product.h"
#include "kernels/base/packed_codes.h"
#include "tests/engine/checkpoint/small_layer.h"
#include "tests/engine/cpu_backend_fixture.h"
#include "tests/engine/normal_values.h"

namespace comet {
namespace {

// A forward pass, and a direction along which its output is seen.
struct Pass {
  LayerFactors factors;
  std::vector<float> hidden;  // In.
  std::vector<float> direction;
  LayerTape tape;
};

class DecoderGradient : public CpuBackendTest<1> {
 protected:
  Pass RunForward(const DifferentiableLayer& layer) {
    Pass pass;
    pass.factors = layer.UnitFactors();
    for (std::vector<float>& scale : pass.factors.scale) {
      for (float& factor : scale) factor = random_.NextFloat(0.8f, 1.2f);
    }
    pass.hidden = NormalValues(random_, kSmallWindowTokens * 16, 1.0f);
    pass.direction = NormalValues(random_, kSmallWindowTokens * 16, 1.0f);
    std::vector<float> output = pass.hidden;
    EXPECT_TRUE(layer.Forward(pass.factors, output, pass.tape).ok());
    return pass;
  }

  // sum of out * direction, a scalar function of hidden and factors.
  static double Project(const DifferentiableLayer& layer, const Pass& pass) {
    LayerTape tape;
    std::vector<float> output = pass.hidden;
    EXPECT_TRUE(layer.Forward(pass.factors, output, tape).ok());
    double sum = 0.0;
    for (size_t i = 0; i < output.size(); ++i) {
      sum += double{output[i]} * double{pass.direction[i]};
    }
    return sum;
  }

  static LayerFactors NoGradient(const DifferentiableLayer& layer) {
    LayerFactors gradient = layer.UnitFactors();
    for (std::vector<float>& scale : gradient.scale) std::ranges::fill(scale, 0.0f);
    std::ranges::fill(gradient.input_norm, 0.0f);
    std::ranges::fill(gradient.post_attention_norm, 0.0f);
    return gradient;
  }

  Random random_{5};
};

TEST_F(DecoderGradient, GradientsAreThoseOfFiniteDifferences) {
  const DifferentiableLayer layer =
      DifferentiableLayer::Make(
          backend_, SmallLayerConfig(), MakeSmallLayer(random_),
          {.window_tokens_max = kSmallWindowTokens, .mode = ActivationMode::kFloat})
          .value();
  Pass pass = RunForward(layer);
  ASSERT_FALSE(HasFailure());
  LayerFactors& factors = pass.factors;
  std::vector<float>& hidden = pass.hidden;
  std::vector<float> d_hidden = pass.direction;
  LayerFactors gradient = NoGradient(layer);

  ASSERT_TRUE(layer.Backward(pass.factors, pass.tape, d_hidden, gradient, nullptr).ok());

  const auto expect_slope = [&](float& value, float expected, const char* name, size_t i) {
    constexpr float kStep = 4e-3f;
    const float before = value;
    value = before + kStep;
    const double high = Project(layer, pass);
    value = before - kStep;
    const double low = Project(layer, pass);
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
TEST_F(DecoderGradient, WeightGradientsAreThoseOfFiniteDifferences) {
  QuantizedLayer quantized = MakeSmallLayer(random_);
  const DifferentiableLayerOptions options{.window_tokens_max = kSmallWindowTokens,
                                           .mode = ActivationMode::kFloat};
  DifferentiableLayer layer =
      DifferentiableLayer::Make(backend_, SmallLayerConfig(), quantized, options).value();
  const Pass pass = RunForward(layer);
  ASSERT_FALSE(HasFailure());
  std::vector<float> d_hidden = pass.direction;
  LayerFactors gradient = NoGradient(layer);
  WeightGradients d_weights;

  ASSERT_TRUE(layer.Backward(pass.factors, pass.tape, d_hidden, gradient, &d_weights).ok());

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
        return Project(layer, pass);
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
TEST_F(DecoderGradient, GradientsOfWeightsAndScalesSeeTheSameInputs) {
  const QuantizedLayer quantized = MakeSmallLayer(random_);
  const DifferentiableLayer layer =
      DifferentiableLayer::Make(backend_, SmallLayerConfig(), quantized,
                                {.window_tokens_max = kSmallWindowTokens})
          .value();
  const Pass pass = RunForward(layer);
  ASSERT_FALSE(HasFailure());
  std::vector<float> d_hidden = pass.direction;
  LayerFactors gradient = NoGradient(layer);
  WeightGradients d_weights;

  ASSERT_TRUE(layer.Backward(pass.factors, pass.tape, d_hidden, gradient, &d_weights).ok());

  const auto linears = LinearsOf(quantized);
  for (size_t kind = 0; kind < linears.size(); ++kind) {
    const std::vector<float> weights = DequantizeInLayerOrder(*linears[kind], 1);
    const size_t width = static_cast<size_t>(linears[kind]->num_inputs);
    double off = 0.0;
    double all = 0.0;
    for (size_t n = 0; n < pass.factors.scale[kind].size(); ++n) {
      double along = 0.0;
      for (size_t k = n * width; k < (n + 1) * width; ++k) {
        along += double{weights[k]} * double{d_weights[kind][k]};
      }
      const double expected = double{pass.factors.scale[kind][n]} * double{gradient.scale[kind][n]};
      off += (along - expected) * (along - expected);
      all += expected * expected;
    }
    EXPECT_LT(std::sqrt(off / all), 0.02) << kind;
  }
}

// The product is that of the weights in the producer's order, off by the inputs' steps alone.
TEST_F(DecoderGradient, ServedProductsReadTheProducersOrder) {
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

}  // namespace
}  // namespace comet
