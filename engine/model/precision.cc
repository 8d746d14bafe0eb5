#include "engine/model/precision.h"

#include <optional>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

std::optional<int> ParseBits(std::string_view text) {
  if (text == "4") return 4;
  if (text == "8") return 8;
  if (text == "16") return 16;
  if (text == "32") return 32;
  return std::nullopt;
}

}  // namespace

Status Precision::Validate() const {
  if (weights == WeightMode::kFloat && activations != ActivationMode::kFloat) {
    return InvalidArgument(StrCat("precision: activations are ", ToString(activations),
                                  ", expected float: unquantised weights take no others"));
  }
  return comet::Validate(kv);
}

std::string_view ToString(ActivationMode mode) {
  switch (mode) {
    case ActivationMode::kFloat: return "float";
    case ActivationMode::kMixed: return "mixed";
    case ActivationMode::kInt8: return "8";
  }
  return "?";
}

Result<ActivationMode> ParseActivationMode(std::string_view text) {
  if (text == "float") return ActivationMode::kFloat;
  if (text == "mixed") return ActivationMode::kMixed;
  if (text == "8") return ActivationMode::kInt8;
  // "auto" is a user's word too, which callers resolve before they ask here.
  return InvalidArgument(
      StrCat("activation bits are \"", text, "\", expected auto, mixed, 8 or float"));
}

Result<KvFormat> ParseKvFormat(std::string_view text) {
  const size_t slash = text.find('/');
  const std::optional<int> k_bits = ParseBits(text.substr(0, slash));
  const std::optional<int> v_bits =
      slash == std::string_view::npos ? k_bits : ParseBits(text.substr(slash + 1));
  if (!k_bits || !v_bits) {
    return InvalidArgument(
        StrCat("KV bits are \"", text, "\", expected auto, 4, 8, 16 or 32, or K/V such as 8/4"));
  }
  return KvFormat{.k_bits = *k_bits, .v_bits = *v_bits};
}

}  // namespace comet
