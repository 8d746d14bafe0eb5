#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "kernels/base/status.h"

namespace comet {

// Parses the text of a configuration file: one JSON object, // and /* */ comments allowed.
// Errors: kInvalidArgument with line and column; `source` names the file.
Result<nlohmann::json> ParseConfigText(std::string_view source, std::string_view text);

// Reads the fields of one object of a configuration file into a config's struct; those it lacks
// keep their values. Collects every fault, one a line, each naming its path. Confined to one call.
class ConfigSection {
 public:
  // `path` names the object in messages: "engine", "engine.scheduler", or "" for the whole file.
  ConfigSection(const nlohmann::json& object, std::string path);

  ConfigSection& Read(std::string_view name, int& value);
  ConfigSection& Read(std::string_view name, int64_t& value);
  ConfigSection& Read(std::string_view name, double& value);
  ConfigSection& Read(std::string_view name, bool& value);
  ConfigSection& Read(std::string_view name, std::string& value);
  // Takes a key whose value is a section of its own, read by another ConfigSection.
  ConfigSection& Skip(std::string_view name);

  // Every fault, those of keys that nobody asked for included.
  Status Finish();

 private:
  const nlohmann::json* Take(std::string_view name);
  std::string PathOf(std::string_view name) const;
  void AddFault(std::string_view name, std::string_view fault);

  const nlohmann::json& object_;
  std::string path_;
  std::vector<std::string> taken_;
  std::string errors_;
};

}  // namespace comet
