#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "engine/loader/packed_format.h"
#include "engine/model/model_config.h"
#include "kernels/base/status.h"

namespace comet {

// Everything that the config.json of a Hugging Face folder says about weights.
struct FolderConfig {
  std::string architecture;  // "llama", "mistral" or "qwen2"
  ModelConfig model;
  bool has_qkv_bias = false;
  PackedFormat packed;
};

// What a config.json leaves out has that library's default for its model_type. `where` begins the
// messages. Errors: kDataLoss; kUnimplemented naming the key whose value has no place here: another
// architecture, RoPE scaling, activation, bias, layers of unlike attention, or packing.
Result<FolderConfig> ParseFolderConfig(const std::string& where, std::string_view text);

// What a config.json holds, of at most 16 MiB. Errors: kNotFound, kDataLoss.
Result<nlohmann::json> ReadConfigJson(const std::string& path);

// From a config.json, and from FOLDER/config.json. Errors: also kNotFound.
Result<FolderConfig> ReadFolderConfigFile(const std::string& path);
Result<FolderConfig> ReadFolderConfig(const std::string& folder);

// Whether FOLDER/config.json is there and is one of a comet checkpoint.
bool IsCometCheckpoint(const std::string& folder);

}  // namespace comet
