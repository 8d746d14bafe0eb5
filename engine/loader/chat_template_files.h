#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "engine/chat_template/named_templates.h"
#include "engine/loader/gguf_file.h"
#include "engine/loader/json_reader.h"
#include "kernels/base/status.h"

namespace comet {

// The chat templates of a Hugging Face folder, "default" first, if there is one:
// chat_template.jinja, or else chat_template of tokenizer_config.json (a text or a named list),
// whose `fields` `config` reads; and additional_chat_templates/NAME.jinja. Errors: kDataLoss.
Result<std::vector<NamedTemplate>> ReadFolderTemplates(const std::string& folder,
                                                       const JsonReader& config,
                                                       const nlohmann::json& fields);

// A GGUF file's tokenizer.chat_template and tokenizer.chat_template.NAME. Errors: kDataLoss.
Result<std::vector<NamedTemplate>> ReadGgufTemplates(const GgufFile& file);

}  // namespace comet
