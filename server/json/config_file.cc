#include "server/json/config_file.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using nlohmann::json;

}  // namespace

Result<json> ParseConfigText(std::string_view source, std::string_view text) {
  try {
    json parsed = json::parse(text, nullptr, /*allow_exceptions=*/true, /*ignore_comments=*/true);
    if (parsed.is_object()) return parsed;
    return InvalidArgument(
        StrCat(source, ": the file is a JSON ", parsed.type_name(), ", expected an object"));
  } catch (const json::exception& error) {
    return InvalidArgument(StrCat(source, ": ", error.what()));
  }
}

ConfigSection::ConfigSection(const json& object, std::string path)
    : object_(object), path_(std::move(path)) {
  if (!object_.is_object()) {
    errors_ = StrCat(path_, " is a JSON ", object_.type_name(), ", expected an object");
  }
}

ConfigSection& ConfigSection::Read(std::string_view name, int64_t& value) {
  const json* found = Take(name);
  if (found == nullptr) return *this;
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  if (!found->is_number_integer()) {
    AddFault(name, StrCat("is a JSON ", found->type_name(), ", expected an integer"));
  } else if (found->is_number_unsigned() && found->get<uint64_t>() > uint64_t{kMax}) {
    AddFault(name, StrCat("is ", found->get<uint64_t>(), ", expected at most ", kMax));
  } else {
    value = found->get<int64_t>();
  }
  return *this;
}

ConfigSection& ConfigSection::Read(std::string_view name, int& value) {
  int64_t wide = value;
  Read(name, wide);
  constexpr int64_t kMin = std::numeric_limits<int>::min();
  constexpr int64_t kMax = std::numeric_limits<int>::max();
  if (wide < kMin || wide > kMax) {
    AddFault(name, StrCat("is ", wide, ", expected ", kMin, " to ", kMax));
  } else {
    value = static_cast<int>(wide);
  }
  return *this;
}

ConfigSection& ConfigSection::Read(std::string_view name, double& value) {
  const json* found = Take(name);
  if (found == nullptr) return *this;
  if (found->is_number()) {
    value = found->get<double>();
  } else {
    AddFault(name, StrCat("is a JSON ", found->type_name(), ", expected a number"));
  }
  return *this;
}

ConfigSection& ConfigSection::Read(std::string_view name, bool& value) {
  const json* found = Take(name);
  if (found == nullptr) return *this;
  if (found->is_boolean()) {
    value = found->get<bool>();
  } else {
    AddFault(name, StrCat("is a JSON ", found->type_name(), ", expected true or false"));
  }
  return *this;
}

ConfigSection& ConfigSection::Read(std::string_view name, std::string& value) {
  const json* found = Take(name);
  if (found == nullptr) return *this;
  if (found->is_string()) {
    value = found->get<std::string>();
  } else {
    AddFault(name, StrCat("is a JSON ", found->type_name(), ", expected a string"));
  }
  return *this;
}

ConfigSection& ConfigSection::Skip(std::string_view name) {
  Take(name);
  return *this;
}

Status ConfigSection::Finish() {
  if (object_.is_object()) {
    for (const auto& [name, value] : object_.items()) {
      if (std::find(taken_.begin(), taken_.end(), name) == taken_.end()) {
        AddFault(name, "is not an option");
      }
    }
  }
  return errors_.empty() ? Status::Ok() : InvalidArgument(errors_);
}

const json* ConfigSection::Take(std::string_view name) {
  if (!object_.is_object()) return nullptr;
  taken_.emplace_back(name);
  const auto found = object_.find(name);
  return found == object_.end() ? nullptr : &*found;
}

std::string ConfigSection::PathOf(std::string_view name) const {
  return path_.empty() ? std::string(name) : StrCat(path_, ".", name);
}

void ConfigSection::AddFault(std::string_view name, std::string_view fault) {
  errors_ += StrCat(errors_.empty() ? "" : "\n", PathOf(name), " ", fault);
}

}  // namespace comet
