#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/loader/float_source.h"
#include "engine/model/model_config.h"
#include "kernels/base/status.h"

namespace comet {

// What a format calls the tensors of one decoder layer, without ".weight" and ".bias".
struct LayerNames {
  std::string input_norm;
  std::string q;
  std::string k;
  std::string v;
  std::string o;
  std::string post_attention_norm;
  std::string gate;
  std::string up;
  std::string down;
};

// The values of one tensor, NAME.weight or NAME.bias, into `out`, which has their number.
using TensorReader =
    std::function<Status(const std::string& name, std::string_view suffix, std::span<float> out)>;

// A layer whose matrices are stored apart, stacked as FloatLayer has them.
Result<FloatLayer> ReadFloatLayer(const ModelConfig& config, const LayerNames& names,
                                  bool has_qkv_bias, const TensorReader& read);

// Fails at the first value that is not finite. Errors: kDataLoss; `where` names the tensor.
Status CheckFinite(std::string_view where, std::span<const float> values);

}  // namespace comet
