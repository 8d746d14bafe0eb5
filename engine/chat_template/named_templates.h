#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"

namespace comet {

inline constexpr std::string_view kDefaultTemplateName = "default";
inline constexpr size_t kNamedTemplatesMax = 64;
inline constexpr int64_t kTemplateBytesMax = 4 << 20;  // Of one source.

// One of a model's chat templates: "default", "tool_use", "rag", ...
struct NamedTemplate {
  std::string name;
  std::string source;

  bool operator==(const NamedTemplate&) const = default;
};

// 1 to 64 of A-Z a-z 0-9 _ -, so that a name can be part of a file's name.
bool IsTemplateName(std::string_view name);

// The source of the template of that name; an empty name asks for "default", or for the only one
// there is. Empty when the model has none at all and none is asked for by name. Errors:
// kInvalidArgument naming those there are.
Result<std::string> ChooseTemplate(const std::vector<NamedTemplate>& templates,
                                   std::string_view name);

}  // namespace comet
