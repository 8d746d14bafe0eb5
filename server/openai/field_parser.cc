#include "server/openai/field_parser.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using Json = nlohmann::json;

constexpr size_t kMetadataEntriesMax = 16;  // OpenAI's schema: Metadata.
constexpr size_t kMetadataKeyBytesMax = 64;
constexpr size_t kMetadataValueBytesMax = 512;

ApiStatus WrongKind(const FieldValue& field, std::string_view expected) {
  return FieldFault(field.param, StrCat("value is ", KindOf(field.json), ", expected ", expected));
}

ApiStatus OutOfRange(const FieldValue& field, double minimum, double maximum) {
  return FieldFault(
      field.param, StrCat("value is ", field.json.dump(), ", expected ", minimum, " to ", maximum));
}

bool IsUnsupportedAnyway(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  if (value.is_structured()) return !value.empty();
  return true;
}

}  // namespace

std::string_view KindOf(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null: return "null";
    case Json::value_t::object: return "an object";
    case Json::value_t::array: return "an array";
    case Json::value_t::string: return "a string";
    case Json::value_t::boolean: return "a boolean";
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned: return "an integer";
    case Json::value_t::number_float: return "a number";
    case Json::value_t::binary:
    case Json::value_t::discarded: return "not JSON";
  }
  return "not JSON";
}

ApiStatus UnknownField(const std::string& param) {
  ApiStatus outcome = param.empty() ? FieldFault("body", "a field's name is empty")
                                    : FieldFault(param, "unknown field");
  outcome.code = "unknown_parameter";
  return outcome;
}

std::string MemberParam(const std::string& param, std::string_view name) {
  return param.empty() ? std::string(name) : StrCat(param, ".", name);
}

ApiStatus ReadBool(const FieldValue& field, bool& out) {
  if (!field.json.is_boolean()) return WrongKind(field, "a boolean");
  out = field.json.get<bool>();
  return {};
}

ApiStatus ReadString(const FieldValue& field, std::string& out) {
  if (!field.json.is_string()) return WrongKind(field, "a string");
  out = field.json.get_ref<const std::string&>();
  return {};
}

ApiStatus ReadInt(const FieldValue& field, int64_t minimum, int64_t maximum, int& out) {
  if (!field.json.is_number_integer()) return WrongKind(field, "an integer");
  const bool is_huge =
      field.json.is_number_unsigned() &&
      field.json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  const int64_t value = is_huge ? std::numeric_limits<int64_t>::max() : field.json.get<int64_t>();
  if (value < minimum || value > maximum) {
    return FieldFault(field.param, StrCat("value is ", field.json.dump(), ", expected ", minimum,
                                          " to ", maximum));
  }
  out = static_cast<int>(value);
  return {};
}

ApiStatus ReadFloat(const FieldValue& field, double minimum, double maximum, float& out) {
  if (!field.json.is_number()) return WrongKind(field, "a number");
  const double value = field.json.get<double>();
  if (!(value >= minimum && value <= maximum)) return OutOfRange(field, minimum, maximum);
  out = static_cast<float>(value);
  return {};
}

ApiStatus ReadPositiveFloat(const FieldValue& field, double maximum, float& out) {
  if (!field.json.is_number()) return WrongKind(field, "a number");
  const double value = field.json.get<double>();
  // Values too small for a float count as zero.
  if (!(value > 0.0 && value <= maximum && static_cast<float>(value) > 0.0f)) {
    return FieldFault(field.param,
                      StrCat("value is ", field.json.dump(), ", expected above 0, to ", maximum));
  }
  out = static_cast<float>(value);
  return {};
}

ApiStatus ReadSeed(const FieldValue& field, std::optional<uint64_t>& out) {
  if (!field.json.is_number_integer()) return WrongKind(field, "a 64-bit integer");
  out = field.json.is_number_unsigned() ? field.json.get<uint64_t>()
                                        : static_cast<uint64_t>(field.json.get<int64_t>());
  return {};
}

ApiStatus ReadTokenIds(const FieldValue& field, int64_t count_max, std::vector<int>& out) {
  if (!field.json.is_array()) return WrongKind(field, "an array of token ids");
  if (static_cast<int64_t>(field.json.size()) > count_max) {
    return FieldFault(field.param,
                      StrCat("length is ", field.json.size(), ", expected at most ", count_max));
  }
  out.clear();
  out.reserve(field.json.size());
  for (size_t i = 0; i < field.json.size(); ++i) {
    int id = 0;
    // The place is only spelled out for the message: a prompt may have a hundred thousand ids.
    ApiStatus outcome =
        ReadInt({field.json[i], field.param, field.limits}, 0, field.limits.vocab_size - 1, id);
    if (!outcome.ok()) {
      return ReadInt({field.json[i], StrCat(field.param, "[", i, "]"), field.limits}, 0,
                     field.limits.vocab_size - 1, id);
    }
    out.push_back(id);
  }
  return {};
}

ApiStatus RefuseField(const FieldValue& field) {
  ApiStatus outcome = FieldFault(field.param, "not supported by this server");
  outcome.code = "unsupported_parameter";
  return outcome;
}

ApiStatus AcceptEmpty(const FieldValue& field) {
  return IsUnsupportedAnyway(field.json) ? RefuseField(field) : ApiStatus();
}

ApiStatus AcceptText(const FieldValue& field) {
  return field.json.is_string() ? ApiStatus() : WrongKind(field, "a string");
}

ApiStatus AcceptMetadata(const FieldValue& field) {
  if (!field.json.is_object()) return WrongKind(field, "an object");
  if (field.json.size() > kMetadataEntriesMax) {
    return FieldFault(field.param, StrCat("length is ", field.json.size(), ", expected at most ",
                                          kMetadataEntriesMax));
  }
  for (const auto& [name, value] : field.json.items()) {
    const FieldValue member{value, MemberParam(field.param, name), field.limits};
    if (!value.is_string()) return WrongKind(member, "a string");
    if (name.size() > kMetadataKeyBytesMax ||
        value.get_ref<const std::string&>().size() > kMetadataValueBytesMax) {
      return FieldFault(field.param,
                        StrCat("expected names of at most ", kMetadataKeyBytesMax,
                               " and values of at most ", kMetadataValueBytesMax, " bytes"));
    }
  }
  return {};
}

ApiStatus AcceptOneOf(const FieldValue& field, std::span<const std::string_view> allowed) {
  if (!field.json.is_string()) return WrongKind(field, "a string");
  const std::string& value = field.json.get_ref<const std::string&>();
  const bool is_allowed = std::find(allowed.begin(), allowed.end(), value) != allowed.end();
  return is_allowed ? ApiStatus() : RefuseField(field);
}

}  // namespace comet
