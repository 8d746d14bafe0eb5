#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "engine/config/engine_config.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"
#include "server/grpc/grpc_server.h"
#include "server/http/http_server.h"
#include "server/http/worker_pool.h"
#include "server/json/parse_json.h"

namespace comet {

// Everything `comet serve` can be told.
struct ServeOptions {
  std::string model;                       // Checkpoint, Hugging Face folder or GGUF file.
  std::string served_model_name;           // Empty: the last part of its path, without extension.
  std::string activation_bits = "auto";    // auto | mixed | 8 | float
  std::string kv_bits = "auto";            // auto, 4, 8, 16, 32 or K/V as in 8/4
  std::string chat_template_file;          // Empty: the model's own.
  std::string chat_template_name;          // Empty: "default".
  std::string accuracy_check = "enforce";  // enforce | warn: of the checkpoint's own report.
  double perplexity_ratio_max = 2.0;       // Held-out perplexity over float; broken beyond.
  std::string host = "127.0.0.1";          // Of both listeners.
  std::string log_level = "info";
  int drain_seconds = 30;            // From SIGTERM until streams are cut off.
  int requests_in_flight_max = 512;  // Of all front ends together; 429 beyond.
  BackendOptions backend;
  EngineConfig engine;
  HttpConfig http;
  GrpcConfig grpc;
  WorkerPoolConfig workers;
  JsonLimits json;

  // Every broken rule, one a line.
  Status Validate() const;
};

// One option: its key in the configuration file, its flag, and where its value goes.
struct OptionRule {
  std::string_view section;  // "engine.scheduler"; "" for the top.
  std::string_view key;
  std::string_view flag;  // "--step-tokens-max"
  std::string_view help;
  std::variant<bool*, int*, int64_t*, double*, std::string*> target;
};

// Every option. The one table that the file, the flags, --help and the printed configuration
// follow.
std::vector<OptionRule> ServeOptionRules(ServeOptions& options);

// The value as text.
std::string OptionText(const OptionRule& rule);

// Reads a configuration file (JSON with comments) over `options`. Errors: kNotFound;
// kInvalidArgument, one fault a line: an unknown key, a value of the wrong type.
Status ReadServeConfig(const std::string& path, ServeOptions& options);

// Sets one option from its flag. Errors: kInvalidArgument.
Status SetServeOption(std::string_view flag, const std::string& text, ServeOptions& options);

// Defaults, then the file (unless its path is empty), then (flag, text) pairs; validated.
Result<ServeOptions> LoadServeOptions(
    const std::string& config_path, const std::vector<std::pair<std::string, std::string>>& flags);

// The whole configuration in the file's form.
nlohmann::ordered_json ToJson(const ServeOptions& options);

}  // namespace comet
