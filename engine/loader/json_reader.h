#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "kernels/base/status.h"

namespace comet {

// Parses a file's JSON text. `where` begins the messages. Errors: kDataLoss with line and column,
// or when values nest deeper than `depth_max`.
Result<nlohmann::json> ParseJson(std::string_view where, std::string_view text, int depth_max);

// Typed, range-checked access to one JSON object; every message reads "<where>.<key>: ...". Borrows
// the json value, which outlives it. Errors of the getters: kDataLoss.
class JsonReader {
 public:
  JsonReader(std::string where, const nlohmann::json& object)
      : where_(std::move(where)), object_(object) {}

  const std::string& where() const { return where_; }

  // Fails unless the value is an object.
  Status CheckObject() const;
  bool Has(std::string_view key) const;     // Present and not null.
  bool IsNull(std::string_view key) const;  // Present and null.

  Result<int64_t> Int(std::string_view key, int64_t minimum, int64_t maximum) const;
  // The same into an int, which `maximum` fits.
  Status Int(std::string_view key, int64_t minimum, int64_t maximum, int& value) const;
  // Finite, within [minimum, maximum].
  Result<double> Number(std::string_view key, double minimum, double maximum) const;
  Result<bool> Bool(std::string_view key) const;
  Result<std::string> String(std::string_view key) const;
  Result<std::vector<std::string>> Strings(std::string_view key, size_t count_max) const;
  // An integer alone is an array of one.
  Result<std::vector<int64_t>> Ints(std::string_view key, int64_t minimum, int64_t maximum,
                                    size_t count_max) const;
  // Finite, within [minimum, maximum].
  Result<std::vector<double>> Numbers(std::string_view key, double minimum, double maximum,
                                      size_t count_max) const;
  Result<JsonReader> Object(std::string_view key) const;
  Result<std::vector<JsonReader>> Objects(std::string_view key, size_t count_max) const;
  std::vector<std::string> Keys() const;

 private:
  Result<const nlohmann::json*> Find(std::string_view key) const;
  Status Fail(std::string_view key, std::string_view expected) const;
  Result<int64_t> ToInt(std::string_view key, const nlohmann::json& value, int64_t minimum,
                        int64_t maximum) const;

  std::string where_;
  const nlohmann::json& object_;
};

}  // namespace comet
