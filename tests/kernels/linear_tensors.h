#pragma once

#include <memory>

#include "kernels/base/math.h"
#include "kernels/ops.h"
#include "tests/kernels/host_tensor.h"

namespace comet {

// The buffers of a LinearInput, in any mode.
struct LinearInputTensors {
  LinearInputTensors(const ActivationFormat& input_format, int num_tokens, int num_channels,
                     DType float_dtype = DType::kF32, int row_padding = 0)
      : format(input_format),
        values(float_dtype, {num_tokens, num_channels}, row_padding),
        codes(DType::kI8, {num_tokens, num_channels}, row_padding),
        scale(DType::kF32, {num_tokens}),
        exponent(DType::kI32, {num_tokens}),
        code_sum(DType::kI32, {num_tokens, 2}) {}

  LinearInput view() {
    if (format.mode == ActivationMode::kFloat) return {.format = format, .values = values.view()};
    return {.format = format,
            .codes = codes.view(),
            .scale = scale.view(),
            .exponent = exponent.view(),
            .code_sum = code_sum.view()};
  }

  // Codes as a producing op could have written them, extremes included.
  void FillRandom(Random& random) {
    values.FillNormal(random, 1.0f);
    for (int t = 0; t < codes.dim(0); ++t) {
      for (int k = 0; k < codes.dim(1); ++k) {
        const bool is_int4 = k < format.num_int4_channels && format.mode == ActivationMode::kMixed;
        const int limit = is_int4 ? 7 : 127;
        const bool is_extreme = random.NextInt(4) == 0;
        const int code = is_extreme ? limit : random.NextInt(2 * limit + 1) - limit;
        codes.Set(t, k, random.NextInt(8) == 0 ? -limit : code);
      }
      scale.Set(0, t, static_cast<double>(random.NextFloat(0.001f, 0.1f)));
      exponent.Set(0, t, random.NextInt(format.exponent_max + 1));
      SetCodeSum(t);
    }
  }

  // Sets row t of code_sum to what its codes add up to.
  void SetCodeSum(int t) {
    int sum_int8 = 0;
    int sum_int4 = 0;
    for (int k = 0; k < codes.dim(1); ++k) {
      (k < format.num_int4_channels ? sum_int4 : sum_int8) += static_cast<int>(codes.At(t, k));
    }
    code_sum.Set(t, 0, sum_int8);
    code_sum.Set(t, 1, sum_int4);
  }

  bool GuardsAreIntact() const {
    return values.GuardsAreIntact() && codes.GuardsAreIntact() && scale.GuardsAreIntact() &&
           exponent.GuardsAreIntact() && code_sum.GuardsAreIntact();
  }

  ActivationFormat format;
  HostTensor values;
  HostTensor codes;
  HostTensor scale;
  HostTensor exponent;
  HostTensor code_sum;
};

// Random weights of one linear layer in one of the three kinds.
struct WeightTensors {
  WeightTensors(WeightKind weight_kind, int num_outputs, int num_inputs, int num_int4_channels,
                Random& random, DType float_dtype = DType::kF32)
      : kind(weight_kind), num_int4(num_int4_channels), scale(DType::kF32, {num_outputs}) {
    scale.FillUniform(random, 0.001f, 0.01f);
    if (kind == WeightKind::kW4ax) {
      codes = HostTensor(DType::kU8, {num_outputs, num_inputs / 2});
      codes.FillUniform(random, 0.0f, 256.0f);
      steps = HostTensor(DType::kI8, {num_outputs, CeilDiv(num_inputs, kBlockChannels)});
      steps.FillUniform(random, -15.0f, 17.0f);
    } else if (kind == WeightKind::kInt8) {
      codes = HostTensor(DType::kI8, {num_outputs, num_inputs});
      codes.FillUniform(random, -127.0f, 128.0f);
    } else {
      values = HostTensor(float_dtype, {num_outputs, num_inputs});
      values.FillNormal(random, 1.0f);
    }
  }

  Result<std::unique_ptr<PackedLinear>> Pack(Ops& ops) const {
    switch (kind) {
      case WeightKind::kW4ax:
        return ops.PackLinear(W4axWeights{.codes = codes.view(),
                                          .steps = steps.view(),
                                          .scale = scale.view(),
                                          .num_int4_channels = num_int4});
      case WeightKind::kInt8:
        return ops.PackLinear(Int8Weights{.codes = codes.view(), .scale = scale.view()});
      case WeightKind::kFloat: return ops.PackLinear(FloatWeights{.values = values.view()});
    }
    return Internal("unknown kind");
  }

  WeightKind kind;
  int num_int4;
  HostTensor codes;
  HostTensor steps;
  HostTensor scale;
  HostTensor values;
};

// The activation format of a layer with the given regions and the largest exponent it allows.
inline ActivationFormat FormatOf(ActivationMode mode, int num_channels, int num_int4_channels,
                                 float clip = 0.9f) {
  ActivationFormat format{.mode = mode, .num_int4_channels = num_int4_channels, .clip = clip};
  if (mode != ActivationMode::kFloat) {
    format.exponent_max = ExponentMax(mode, num_int4_channels, num_channels - num_int4_channels);
  }
  return format;
}

}  // namespace comet
