#include "engine/loader/chat_template_files.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "engine/loader/mapped_file.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using nlohmann::json;

constexpr std::string_view kTemplateSuffix = ".jinja";

Status CheckTemplate(const std::string& where, const std::vector<NamedTemplate>& templates,
                     const std::string& name) {
  if (!IsTemplateName(name)) {
    return DataLoss(StrCat(where, ": name is \"", name.substr(0, 100),
                           "\", expected 1 to 64 of A-Z a-z 0-9 _ -"));
  }
  if (std::ranges::find(templates, name, &NamedTemplate::name) != templates.end()) {
    return DataLoss(StrCat(where, ": \"", name, "\" is the name of another template too"));
  }
  if (templates.size() >= kNamedTemplatesMax) {
    return DataLoss(StrCat(where, ": expected at most ", kNamedTemplatesMax, " templates"));
  }
  return Status::Ok();
}

Status ReadTemplateList(const JsonReader& config, std::vector<NamedTemplate>& templates) {
  COMET_ASSIGN_OR_RETURN(const std::vector<JsonReader> named,
                         config.Objects("chat_template", kNamedTemplatesMax));
  for (const JsonReader& one : named) {
    COMET_ASSIGN_OR_RETURN(std::string name, one.String("name"));
    COMET_ASSIGN_OR_RETURN(std::string source, one.String("template"));
    COMET_RETURN_IF_ERROR(CheckTemplate(one.where(), templates, name));
    templates.push_back({std::move(name), std::move(source)});
  }
  return Status::Ok();
}

Status ReadAdditionalTemplates(const std::string& folder, std::vector<NamedTemplate>& templates) {
  std::set<std::string> paths;  // In an order that is the same everywhere.
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == kTemplateSuffix) paths.insert(it->path().string());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    return Internal(StrCat(folder, ": cannot be listed: ", error.message()));
  }
  for (const std::string& path : paths) {
    std::string name = std::filesystem::path(path).stem().string();
    COMET_RETURN_IF_ERROR(CheckTemplate(path, templates, name));
    COMET_ASSIGN_OR_RETURN(std::string source, ReadTextFile(path, kTemplateBytesMax));
    templates.push_back({std::move(name), std::move(source)});
  }
  return Status::Ok();
}

void DefaultFirst(std::vector<NamedTemplate>& templates) {
  std::stable_partition(templates.begin(), templates.end(),
                        [](const NamedTemplate& one) { return one.name == kDefaultTemplateName; });
}

}  // namespace

Result<std::vector<NamedTemplate>> ReadFolderTemplates(const std::string& folder,
                                                       const JsonReader& config,
                                                       const json& fields) {
  std::vector<NamedTemplate> templates;
  COMET_ASSIGN_OR_RETURN(std::optional<std::string> text,
                         ReadOptionalTextFile(folder + "/chat_template.jinja", kTemplateBytesMax));
  const bool has_list = config.Has("chat_template") && fields.at("chat_template").is_array();
  if (text.has_value()) {
    templates.push_back({std::string(kDefaultTemplateName), std::move(*text)});
  } else if (has_list) {
    COMET_RETURN_IF_ERROR(ReadTemplateList(config, templates));
  } else if (config.Has("chat_template")) {
    COMET_ASSIGN_OR_RETURN(std::string source, config.String("chat_template"));
    templates.push_back({std::string(kDefaultTemplateName), std::move(source)});
  }
  COMET_RETURN_IF_ERROR(ReadAdditionalTemplates(folder + "/additional_chat_templates", templates));
  DefaultFirst(templates);
  return templates;
}

Result<std::vector<NamedTemplate>> ReadGgufTemplates(const GgufFile& file) {
  constexpr std::string_view kKey = "tokenizer.chat_template";
  std::vector<NamedTemplate> templates;
  for (const auto& [key, value] : file.metadata()) {
    const bool is_named = key.starts_with(kKey) && key.substr(kKey.size()).starts_with('.');
    if (key != kKey && !is_named) continue;
    std::string name(is_named ? key.substr(kKey.size() + 1) : kDefaultTemplateName);
    COMET_RETURN_IF_ERROR(CheckTemplate(StrCat(file.path(), ": ", key), templates, name));
    COMET_ASSIGN_OR_RETURN(std::optional<std::string> source, file.FindString(key));
    templates.push_back({std::move(name), std::move(source).value_or("")});
  }
  DefaultFirst(templates);
  return templates;
}

}  // namespace comet
