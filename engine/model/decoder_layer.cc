#include "engine/model/decoder_layer.h"

#include <cmath>
#include <vector>

#include "engine/model/pack_floats.h"
#include "engine/model/synthetic_model.h"
#include "kernels/base/math.h"
#include "kernels/base/packed_codes.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

ConstTensorView HostVector(const std::vector<float>& values) {
  if (values.empty()) return {};
  return ConstTensorView(values.data(), DType::kF32, {static_cast<int>(values.size())});
}

ActivationFormat FormatOf(const Ops& ops, ActivationMode mode, int num_int4, int num_inputs,
                          float clip) {
  return {.mode = mode,
          .num_int4_channels = num_int4,
          .exponent_max = ExponentMax(mode, num_int4, num_inputs - num_int4),
          .clip = clip,
          .packs_int4 = mode == ActivationMode::kMixed && ops.HasInt4Products()};
}

Result<LinearLayer> MakeLinear(Backend& backend, const CheckpointLinear& source,
                               ActivationMode mode) {
  const int num_outputs = source.weights.codes.dim(0);
  const int num_inputs = source.weights.codes.dim(1) * 2;
  LinearLayer layer;
  if (mode == ActivationMode::kFloat) {
    COMET_ASSIGN_OR_RETURN(layer.weights, PackFloats(*backend.ops, Dequantize(source.weights),
                                                     num_outputs, num_inputs));
  } else {
    layer.format =
        FormatOf(*backend.ops, mode, source.weights.num_int4_channels, num_inputs, source.clip);
    COMET_ASSIGN_OR_RETURN(layer.weights, backend.ops->PackLinear(source.weights));
  }
  COMET_ASSIGN_OR_RETURN(layer.bias, DeviceTensor::Upload(*backend.device, source.bias));
  COMET_ASSIGN_OR_RETURN(layer.gather, DeviceTensor::Upload(*backend.device, source.gather));
  return layer;
}

Result<LinearLayer> MakeLinear(Backend& backend, const std::vector<float>& weights,
                               const std::vector<float>& bias, int num_outputs, int num_inputs) {
  LinearLayer layer;
  COMET_ASSIGN_OR_RETURN(layer.weights, PackFloats(*backend.ops, weights, num_outputs, num_inputs));
  COMET_ASSIGN_OR_RETURN(layer.bias, DeviceTensor::Upload(*backend.device, HostVector(bias)));
  return layer;
}

Result<LinearLayer> MakeLinear(Backend& backend, const SyntheticModel& synthetic, int layer_idx,
                               LinearKind kind, ActivationMode mode) {
  const RandomLinear linear = synthetic.Linear(layer_idx, kind);
  LinearLayer layer;
  layer.format = FormatOf(*backend.ops, mode, linear.num_int4_channels, linear.num_inputs,
                          /*clip=*/1.0f);
  COMET_ASSIGN_OR_RETURN(layer.weights, backend.ops->PackRandom(linear));
  if (kind == LinearKind::kQkv) {
    COMET_ASSIGN_OR_RETURN(
        layer.bias,
        DeviceTensor::Upload(*backend.device, HostVector(synthetic.QkvBias(layer_idx))));
  }
  const std::vector<int32_t> order = synthetic.GatherOrder(layer_idx, kind);
  if (order.empty()) return layer;
  COMET_ASSIGN_OR_RETURN(
      layer.gather,
      DeviceTensor::Upload(*backend.device, {order.data(), DType::kI32, {linear.num_inputs}}));
  return layer;
}

}  // namespace

std::vector<float> Dequantize(const W4axWeights& weights) {
  const int num_outputs = weights.codes.dim(0);
  const int num_inputs = weights.codes.dim(1) * 2;
  const uint8_t* codes = weights.codes.as<uint8_t>();
  const int8_t* steps = weights.steps.as<int8_t>();
  const float* scale = weights.scale.as<float>();
  const int num_blocks = weights.steps.dim(1);
  std::vector<float> values(static_cast<size_t>(num_outputs) * static_cast<size_t>(num_inputs));
  float* value = values.data();
  for (int n = 0; n < num_outputs; ++n) {
    const uint8_t* packed = codes + static_cast<int64_t>(n) * (num_inputs / 2);
    for (int k = 0; k < num_inputs; ++k) {
      const int code = CodeAt(packed, static_cast<size_t>(k));
      const int step = steps[static_cast<int64_t>(n) * num_blocks + k / kBlockChannels];
      *value++ = static_cast<float>(step * code) * scale[n];
    }
  }
  return values;
}

std::vector<float> Dequantize(const Int8Weights& weights) {
  const int num_outputs = weights.codes.dim(0);
  const int num_inputs = weights.codes.dim(1);
  const int8_t* code = weights.codes.as<int8_t>();
  const float* scale = weights.scale.as<float>();
  std::vector<float> values;
  values.reserve(static_cast<size_t>(num_outputs) * static_cast<size_t>(num_inputs));
  for (int n = 0; n < num_outputs; ++n) {
    for (int k = 0; k < num_inputs; ++k) values.push_back(static_cast<float>(*code++) * scale[n]);
  }
  return values;
}

Result<DecoderLayer> DecoderLayer::Make(Backend& backend, const ModelConfig& config,
                                        const CheckpointLayer& layer, const Precision& precision) {
  const ActivationMode mode = precision.activations;
  DecoderLayer made;
  COMET_ASSIGN_OR_RETURN(made.input_norm_, DeviceTensor::Upload(*backend.device, layer.input_norm));
  COMET_ASSIGN_OR_RETURN(made.post_attention_norm_,
                         DeviceTensor::Upload(*backend.device, layer.post_attention_norm));
  COMET_ASSIGN_OR_RETURN(made.qkv_, MakeLinear(backend, layer.qkv, mode));
  COMET_ASSIGN_OR_RETURN(made.o_, MakeLinear(backend, layer.o, mode));
  COMET_ASSIGN_OR_RETURN(made.gate_up_, MakeLinear(backend, layer.gate_up, mode));
  COMET_ASSIGN_OR_RETURN(made.down_, MakeLinear(backend, layer.down, mode));
  made.kv_ = precision.kv_from_checkpoint ? layer.kv : precision.kv;
  if (layer.qk_hadamard && !IsPowerOfTwo(config.head_dim)) {
    return DataLoss(StrCat("checkpoint: qk_hadamard is set but head_dim is ", config.head_dim,
                           ", expected a power of two"));
  }
  // A Hadamard only spreads K's quantisation error; unquantised keys need none.
  made.qk_hadamard_ = layer.qk_hadamard && made.kv_.k_bits <= 8;
  if (layer.down_hadamard) made.num_down_hadamard_ = layer.down.weights.num_int4_channels;
  return made;
}

Result<DecoderLayer> DecoderLayer::Make(Backend& backend, const ModelConfig& config,
                                        const FloatLayer& layer, const Precision& precision) {
  DecoderLayer made;
  COMET_ASSIGN_OR_RETURN(made.input_norm_,
                         DeviceTensor::Upload(*backend.device, HostVector(layer.input_norm)));
  COMET_ASSIGN_OR_RETURN(
      made.post_attention_norm_,
      DeviceTensor::Upload(*backend.device, HostVector(layer.post_attention_norm)));
  COMET_ASSIGN_OR_RETURN(made.qkv_, MakeLinear(backend, layer.qkv, layer.qkv_bias,
                                               config.qkv_size(), config.hidden_size));
  COMET_ASSIGN_OR_RETURN(made.o_,
                         MakeLinear(backend, layer.o, {}, config.hidden_size, config.q_size()));
  COMET_ASSIGN_OR_RETURN(made.gate_up_, MakeLinear(backend, layer.gate_up, {}, 2 * config.ffn_size,
                                                   config.hidden_size));
  COMET_ASSIGN_OR_RETURN(made.down_,
                         MakeLinear(backend, layer.down, {}, config.hidden_size, config.ffn_size));
  made.kv_ = precision.kv;
  made.qk_hadamard_ = precision.kv.k_bits <= 8 && IsPowerOfTwo(config.head_dim);
  return made;
}

Result<DecoderLayer> DecoderLayer::Make(Backend& backend, const SyntheticModel& synthetic,
                                        int layer_idx, const Precision& precision) {
  const std::vector<float> ones(static_cast<size_t>(synthetic.config.hidden_size), 1.0f);
  DecoderLayer made;
  for (DeviceTensor* norm : {&made.input_norm_, &made.post_attention_norm_}) {
    COMET_ASSIGN_OR_RETURN(*norm, DeviceTensor::Upload(*backend.device, HostVector(ones)));
  }
  const auto make = [&](LinearKind kind) {
    return MakeLinear(backend, synthetic, layer_idx, kind, precision.activations);
  };
  COMET_ASSIGN_OR_RETURN(made.qkv_, make(LinearKind::kQkv));
  COMET_ASSIGN_OR_RETURN(made.o_, make(LinearKind::kO));
  COMET_ASSIGN_OR_RETURN(made.gate_up_, make(LinearKind::kGateUp));
  COMET_ASSIGN_OR_RETURN(made.down_, make(LinearKind::kDown));
  made.kv_ = precision.kv_from_checkpoint ? synthetic.kv : precision.kv;
  made.qk_hadamard_ = made.kv_.k_bits <= 8 && IsPowerOfTwo(synthetic.config.head_dim);
  return made;
}

Status DecoderLayer::Forward(Ops& ops, const ModelConfig& config, const LayerStep& step) const {
  const StepWorkspace& work = step.workspace;
  const TensorView& hidden = step.hidden;
  const LinearInput qkv_in = work.Input(qkv_.format, config.hidden_size);
  COMET_RETURN_IF_ERROR(ops.RmsNorm({.out = qkv_in,
                                     .x = hidden,
                                     .weight = input_norm_.view(),
                                     .gather = qkv_.gather.view(),
                                     .epsilon = config.rms_norm_epsilon}));
  COMET_RETURN_IF_ERROR(ops.Linear(
      {.y = work.qkv(), .x = qkv_in, .weights = qkv_.weights.get(), .bias = qkv_.bias.view()}));
  COMET_RETURN_IF_ERROR(ops.RopeAppend({.q_out = work.queries(),
                                        .cache = step.cache,
                                        .qkv = work.qkv(),
                                        .cos = step.cos,
                                        .sin = step.sin,
                                        .batch = work.batch(),
                                        .num_heads = config.num_heads,
                                        .hadamard = qk_hadamard_}));
  COMET_RETURN_IF_ERROR(
      ops.Attention({.out = work.attention(),
                     .q = work.queries(),
                     .cache = step.cache,
                     .batch = work.batch(),
                     .scratch = work.attention_scratch(),
                     .num_heads = config.num_heads,
                     .softmax_scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim)),
                     .window = config.sliding_window}));
  const LinearInput o_in = work.Input(o_.format, config.q_size());
  COMET_RETURN_IF_ERROR(
      ops.Gather({.out = o_in, .x = work.attention(), .gather = o_.gather.view()}));
  COMET_RETURN_IF_ERROR(ops.Linear({.y = hidden,
                                    .x = o_in,
                                    .weights = o_.weights.get(),
                                    .bias = o_.bias.view(),
                                    .residual = hidden}));

  const LinearInput gate_up_in = work.Input(gate_up_.format, config.hidden_size);
  COMET_RETURN_IF_ERROR(ops.RmsNorm({.out = gate_up_in,
                                     .x = hidden,
                                     .weight = post_attention_norm_.view(),
                                     .gather = gate_up_.gather.view(),
                                     .epsilon = config.rms_norm_epsilon}));
  COMET_RETURN_IF_ERROR(ops.Linear({.y = work.gate_up(),
                                    .x = gate_up_in,
                                    .weights = gate_up_.weights.get(),
                                    .bias = gate_up_.bias.view()}));
  const LinearInput down_in = work.Input(down_.format, config.ffn_size);
  COMET_RETURN_IF_ERROR(ops.SiluMul(
      {.out = down_in, .gate_up = work.gate_up(), .num_hadamard_channels = num_down_hadamard_}));
  COMET_RETURN_IF_ERROR(ops.Linear({.y = hidden,
                                    .x = down_in,
                                    .weights = down_.weights.get(),
                                    .bias = down_.bias.view(),
                                    .residual = hidden}));
  return Status::Ok();
}

int64_t DecoderLayer::num_bytes() const {
  int64_t bytes = input_norm_.num_bytes() + post_attention_norm_.num_bytes();
  for (const LinearLayer* linear : {&qkv_, &o_, &gate_up_, &down_}) {
    bytes += linear->weights->num_bytes() + linear->bias.num_bytes() + linear->gather.num_bytes();
  }
  return bytes;
}

}  // namespace comet
