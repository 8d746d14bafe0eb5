#pragma once

#include <nlohmann/json_fwd.hpp>

#include "engine/loader/json_reader.h"
#include "engine/model/model_config.h"
#include "kernels/base/status.h"

namespace comet {

// Parts of a config.json that checkpoints and Hugging Face folders have in common.

// What it says about rotary embedding: rope_parameters, or else rope_scaling and
// rope_theta. Keys that are absent leave `rope` as it is, or have Hugging Face's defaults, which
// may depend on `context_length_max`. Values are checked for type; ranges are
// ModelConfig::Validate()'s. Errors: kDataLoss; kUnimplemented naming the scaling and what it
// lacks.
Status ReadRope(const JsonReader& root, int context_length_max, RopeConfig& rope);

// bos_token_id and eos_token_id, one or several; what is absent leaves `model` as it is. Errors:
// kDataLoss, also for an id that is not below vocab_size.
Status ReadTokenIds(const JsonReader& root, ModelConfig& model);

// The value of rope_scaling that ReadRope() reads back; null for type "default".
nlohmann::ordered_json RopeScalingJson(const RopeConfig& rope);

}  // namespace comet
