#include "engine/loader/json_reader.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using nlohmann::json;

// Deepest nesting of brackets outside of strings. Counted before parsing: the library's parser and
// destructor are safe on deep values, its other functions recurse.
int NestingDepth(std::string_view text) {
  int depth = 0;
  int depth_max = 0;
  bool is_in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (is_in_string) {
      if (c == '\\') ++i;
      is_in_string = c != '"';
    } else if (c == '"') {
      is_in_string = true;
    } else if (c == '{' || c == '[') {
      depth_max = std::max(depth_max, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return depth_max;
}

// The value as a message shows it; long ones are cut.
std::string Shown(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return StrCat("an array of ", value.size());
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  return text;
}

}  // namespace

Result<json> ParseJson(std::string_view where, std::string_view text, int depth_max) {
  const int depth = NestingDepth(text);
  if (depth > depth_max) {
    return DataLoss(StrCat(where, ": nesting is ", depth, " deep, expected at most ", depth_max));
  }
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    return DataLoss(StrCat(where, ": ", error.what()));
  }
}

Status JsonReader::CheckObject() const {
  if (object_.is_object()) return Status::Ok();
  return DataLoss(StrCat(where_, ": is ", Shown(object_), ", expected an object"));
}

bool JsonReader::Has(std::string_view key) const {
  const auto found = object_.find(std::string(key));
  return found != object_.end() && !found->is_null();
}

bool JsonReader::IsNull(std::string_view key) const {
  const auto found = object_.find(std::string(key));
  return found != object_.end() && found->is_null();
}

Result<int64_t> JsonReader::Int(std::string_view key, int64_t minimum, int64_t maximum) const {
  COMET_ASSIGN_OR_RETURN(const json* value, Find(key));
  return ToInt(key, *value, minimum, maximum);
}

Status JsonReader::Int(std::string_view key, int64_t minimum, int64_t maximum, int& value) const {
  COMET_ASSIGN_OR_RETURN(const int64_t wide, Int(key, minimum, maximum));
  value = static_cast<int>(wide);
  return Status::Ok();
}

Result<double> JsonReader::Number(std::string_view key, double minimum, double maximum) const {
  COMET_ASSIGN_OR_RETURN(const json* value, Find(key));
  if (value->is_number()) {
    const double number = value->get<double>();
    if (std::isfinite(number) && number >= minimum && number <= maximum) return number;
  }
  return Fail(key, StrCat("a number from ", minimum, " to ", maximum));
}

Result<bool> JsonReader::Bool(std::string_view key) const {
  COMET_ASSIGN_OR_RETURN(const json* value, Find(key));
  if (!value->is_boolean()) return Fail(key, "true or false");
  return value->get<bool>();
}

Result<std::string> JsonReader::String(std::string_view key) const {
  COMET_ASSIGN_OR_RETURN(const json* value, Find(key));
  if (!value->is_string()) return Fail(key, "a string");
  return value->get<std::string>();
}

Result<std::vector<std::string>> JsonReader::Strings(std::string_view key, size_t count_max) const {
  COMET_ASSIGN_OR_RETURN(const json* value, Find(key));
  const auto is_string = [](const json& item) { return item.is_string(); };
  if (!value->is_array() || value->size() > count_max || !std::ranges::all_of(*value, is_string)) {
    return Fail(key, StrCat("an array of at most ", count_max, " strings"));
  }
  return value->get<std::vector<std::string>>();
}

Result<std::vector<int64_t>> JsonReader::Ints(std::string_view key, int64_t minimum,
                                              int64_t maximum, size_t count_max) const {
  COMET_ASSIGN_OR_RETURN(const json* value, Find(key));
  std::vector<int64_t> ints;
  if (!value->is_array()) {
    COMET_ASSIGN_OR_RETURN(const int64_t one, ToInt(key, *value, minimum, maximum));
    ints.push_back(one);
    return ints;
  }
  if (value->size() > count_max) return Fail(key, StrCat("at most ", count_max, " integers"));
  for (const json& item : *value) {
    COMET_ASSIGN_OR_RETURN(const int64_t one, ToInt(key, item, minimum, maximum));
    ints.push_back(one);
  }
  return ints;
}

Result<std::vector<double>> JsonReader::Numbers(std::string_view key, double minimum,
                                                double maximum, size_t count_max) const {
  COMET_ASSIGN_OR_RETURN(const json* value, Find(key));
  const auto is_good = [&](const json& item) {
    return item.is_number() && item.get<double>() >= minimum && item.get<double>() <= maximum;
  };
  if (!value->is_array() || value->size() > count_max || !std::ranges::all_of(*value, is_good)) {
    return Fail(key, StrCat("at most ", count_max, " numbers from ", minimum, " to ", maximum));
  }
  return value->get<std::vector<double>>();
}

Result<JsonReader> JsonReader::Object(std::string_view key) const {
  COMET_ASSIGN_OR_RETURN(const json* value, Find(key));
  if (!value->is_object()) return Fail(key, "an object");
  return JsonReader(StrCat(where_, ".", key), *value);
}

Result<std::vector<JsonReader>> JsonReader::Objects(std::string_view key, size_t count_max) const {
  COMET_ASSIGN_OR_RETURN(const json* value, Find(key));
  if (!value->is_array() || value->size() > count_max) {
    return Fail(key, StrCat("an array of at most ", count_max, " objects"));
  }
  std::vector<JsonReader> objects;
  for (size_t i = 0; i < value->size(); ++i) {
    const JsonReader object(StrCat(where_, ".", key, "[", i, "]"), (*value)[i]);
    COMET_RETURN_IF_ERROR(object.CheckObject());
    objects.push_back(object);
  }
  return objects;
}

std::vector<std::string> JsonReader::Keys() const {
  std::vector<std::string> keys;
  for (const auto& item : object_.items()) keys.push_back(item.key());
  return keys;
}

Result<const json*> JsonReader::Find(std::string_view key) const {
  const auto found = object_.find(std::string(key));
  if (found == object_.end()) return DataLoss(StrCat(where_, ".", key, ": is absent"));
  return &*found;
}

Status JsonReader::Fail(std::string_view key, std::string_view expected) const {
  return DataLoss(
      StrCat(where_, ".", key, ": is ", Shown(object_[std::string(key)]), ", expected ", expected));
}

Result<int64_t> JsonReader::ToInt(std::string_view key, const json& value, int64_t minimum,
                                  int64_t maximum) const {
  const bool is_too_large =
      value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (value.is_number_integer() && !is_too_large) {
    const int64_t number = value.get<int64_t>();
    if (number >= minimum && number <= maximum) return number;
  }
  return Fail(key, StrCat("an integer from ", minimum, " to ", maximum));
}

}  // namespace comet
