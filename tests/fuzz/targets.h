#pragma once

#include <string_view>

namespace comet {

// What is fuzzed: each reads any bytes as its kind of file and, where they are good, uses the
// result a little. An aborting check or a sanitizer's report is a finding; nothing else is.

void FuzzTokenizerJson(std::string_view bytes);
void FuzzSentencePieceModel(std::string_view bytes);
void FuzzTiktoken(std::string_view bytes);
void FuzzTemplateSource(std::string_view bytes);  // Jinja, rendered with fixed values.
void FuzzTemplateValues(std::string_view bytes);  // JSON, given to fixed templates.
void FuzzGguf(std::string_view bytes);
void FuzzSafetensors(std::string_view bytes);
void FuzzConfigJson(std::string_view bytes);
// A Hugging Face folder: config.json, model.safetensors.index.json and a safetensors file, parted
// by the byte 0x1e, which no JSON text has.
void FuzzFolder(std::string_view bytes);

}  // namespace comet
