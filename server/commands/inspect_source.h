#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "engine/model/model_config.h"
#include "kernels/base/status.h"

namespace comet {

// What `comet inspect` says of a Hugging Face folder or a GGUF file: architecture, sizes and types,
// as far as the source states them even where it cannot be used; "unsupported" then has the
// reasons, and `usable` the first of them. Errors: when there is nothing to describe.
Status DescribeSource(const std::string& path, nlohmann::ordered_json& json, Status& usable);

nlohmann::ordered_json ConfigJson(const ModelConfig& config, const std::string& architecture);

}  // namespace comet
