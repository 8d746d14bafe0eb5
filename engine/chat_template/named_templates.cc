#include "engine/chat_template/named_templates.h"

#include <algorithm>

#include "kernels/base/str_cat.h"

namespace comet {

bool IsTemplateName(std::string_view name) {
  constexpr size_t kBytesMax = 64;
  return !name.empty() && name.size() <= kBytesMax && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

Result<std::string> ChooseTemplate(const std::vector<NamedTemplate>& templates,
                                   std::string_view name) {
  const std::string_view wanted = name.empty() ? kDefaultTemplateName : name;
  const auto found = std::ranges::find(templates, wanted, &NamedTemplate::name);
  if (found != templates.end()) return found->source;
  if (name.empty() && templates.empty()) return std::string();
  if (name.empty() && templates.size() == 1) return templates.front().source;
  std::string names;
  for (const NamedTemplate& one : templates) names += (names.empty() ? "" : ", ") + one.name;
  return InvalidArgument(StrCat("chat template: \"", wanted,
                                "\" is not one of the model's, expected ",
                                names.empty() ? "none: it has no template" : names));
}

}  // namespace comet
