#include "engine/loader/text_files.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <unordered_map>

#include "engine/loader/chat_template_files.h"
#include "engine/loader/json_reader.h"
#include "engine/loader/mapped_file.h"
#include "engine/loader/sentencepiece_model.h"
#include "engine/loader/tiktoken_file.h"
#include "engine/loader/tokenizer_json.h"
#include "engine/loader/vocabulary_padding.h"
#include "engine/model/model_config.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using nlohmann::json;

constexpr int64_t kVocabularyBytesMax = 64 << 20;  // Published files have up to 17 MB.
constexpr int64_t kConfigBytesMax = 16 << 20;
constexpr int kDepthMax = 64;
constexpr int64_t kTokenIdMax = 1 << 22;

// An object, empty when the file does not exist.
Result<json> ReadOptionalJson(const std::string& path) {
  COMET_ASSIGN_OR_RETURN(const std::optional<std::string> text,
                         ReadOptionalTextFile(path, kConfigBytesMax));
  if (!text.has_value()) return json::object();
  COMET_ASSIGN_OR_RETURN(json value, ParseJson(path, *text, kDepthMax));
  COMET_RETURN_IF_ERROR(JsonReader(path, value).CheckObject());
  return value;
}

// A token as a text or as an object with its content; nothing when absent or null.
Result<std::optional<std::string>> FindTokenText(const JsonReader& reader, const json& fields,
                                                 const std::string& key) {
  if (!reader.Has(key)) return std::optional<std::string>();
  if (!fields.at(key).is_object()) {
    COMET_ASSIGN_OR_RETURN(std::string text, reader.String(key));
    return std::optional<std::string>(std::move(text));
  }
  COMET_ASSIGN_OR_RETURN(const JsonReader token, reader.Object(key));
  COMET_ASSIGN_OR_RETURN(std::string text, token.String("content"));
  return std::optional<std::string>(std::move(text));
}

// Every token that a special_tokens_map.json names: texts, objects with a content, arrays of them.
std::set<std::string> TextsOf(const json& map) {
  std::set<std::string> texts;
  const auto add = [&](const json& token) {
    if (token.is_string()) texts.insert(token.get<std::string>());
    if (!token.is_object()) return;
    const auto content = token.find("content");
    if (content != token.end() && content->is_string()) texts.insert(content->get<std::string>());
  };
  for (const json& value : map) {
    add(value);
    if (!value.is_array()) continue;
    for (const json& token : value) add(token);
  }
  return texts;
}

// SentencePiece looks for user-defined tokens in the escaped text.
std::string EscapeSpaces(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == ' ') {
      escaped += "\xE2\x96\x81";  // U+2581.
    } else {
      escaped += c;
    }
  }
  return escaped;
}

class TextFilesReader {
 public:
  TextFilesReader(const std::string& folder, int num_rows) : folder_(folder), num_rows_(num_rows) {}

  Result<TextFiles> Read();

 private:
  Status ReadVocabulary();
  Status ReadAddedTokens(const JsonReader& config);
  Status SetAddedToken(const JsonReader& token, int id);
  Status AppendToken(const std::string& where, const std::string& content, int id, bool is_special);
  Status CheckPlain(const JsonReader& token) const;
  Status ReadAddedTokensFile();
  Status ReadSpecialIds(const JsonReader& config, const json& fields);
  Status ReadSpecialId(const JsonReader& reader, const json& fields, const std::string& key,
                       int& id, bool& is_found);
  Status ReadFlags(const JsonReader& config);
  Status ReadEosIds();

  std::string Path(std::string_view file) const { return StrCat(folder_, "/", file); }
  Vocabulary& vocabulary() { return files_.vocabulary; }
  int FindPiece(const std::string& piece) const;

  const std::string folder_;
  const int num_rows_;
  TextFiles files_;
  std::string vocabulary_path_;
  std::unordered_map<std::string, int> ids_;  // Of pieces; the first of equal ones.
};

Result<TextFiles> TextFilesReader::Read() {
  COMET_RETURN_IF_ERROR(ReadVocabulary());
  for (size_t id = 0; id < vocabulary().pieces.size(); ++id) {
    ids_.emplace(vocabulary().pieces[id], static_cast<int>(id));
  }
  COMET_RETURN_IF_ERROR(ReadAddedTokensFile());
  const std::string config_path = Path("tokenizer_config.json");
  COMET_ASSIGN_OR_RETURN(const json config_fields, ReadOptionalJson(config_path));
  const JsonReader config(config_path, config_fields);
  COMET_RETURN_IF_ERROR(ReadAddedTokens(config));
  COMET_RETURN_IF_ERROR(ReadSpecialIds(config, config_fields));
  COMET_RETURN_IF_ERROR(ReadFlags(config));
  COMET_RETURN_IF_ERROR(ReadEosIds());
  COMET_ASSIGN_OR_RETURN(files_.chat_templates,
                         ReadFolderTemplates(folder_, config, config_fields));
  COMET_RETURN_IF_ERROR(FitVocabulary(vocabulary_path_, num_rows_, vocabulary()));
  return std::move(files_);
}

Status TextFilesReader::ReadVocabulary() {
  vocabulary_path_ = Path("tokenizer.json");
  COMET_ASSIGN_OR_RETURN(std::optional<std::string> text,
                         ReadOptionalTextFile(vocabulary_path_, kVocabularyBytesMax));
  if (text.has_value()) {
    COMET_ASSIGN_OR_RETURN(vocabulary(), ParseTokenizerJson(vocabulary_path_, *text));
    return Status::Ok();
  }
  vocabulary_path_ = Path("tokenizer.model");
  COMET_ASSIGN_OR_RETURN(text, ReadOptionalTextFile(vocabulary_path_, kVocabularyBytesMax));
  if (!text.has_value()) {
    return NotFound(
        StrCat(folder_, ": has no vocabulary, expected tokenizer.json or tokenizer.model"));
  }
  if (LooksLikeTiktoken(*text)) {
    COMET_ASSIGN_OR_RETURN(vocabulary(), ParseTiktoken(vocabulary_path_, *text));
  } else {
    COMET_ASSIGN_OR_RETURN(vocabulary(), ParseSentencePieceModel(vocabulary_path_, *text));
  }
  return Status::Ok();
}

int TextFilesReader::FindPiece(const std::string& piece) const {
  const auto found = ids_.find(piece);
  return found == ids_.end() ? -1 : found->second;
}

// ---- added tokens

Status TextFilesReader::ReadAddedTokens(const JsonReader& config) {
  if (!config.Has("added_tokens_decoder")) return Status::Ok();
  COMET_ASSIGN_OR_RETURN(const JsonReader tokens, config.Object("added_tokens_decoder"));
  std::map<int, std::string> keys;  // In the order of ids, so that new ones are appended.
  for (const std::string& key : tokens.Keys()) {
    int id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id > kTokenIdMax) {
      return DataLoss(
          StrCat(tokens.where(), ".", key.substr(0, 40), ": expected an id as its name"));
    }
    keys.emplace(id, key);
  }
  for (const auto& [id, key] : keys) {
    COMET_ASSIGN_OR_RETURN(const JsonReader token, tokens.Object(key));
    COMET_RETURN_IF_ERROR(SetAddedToken(token, id));
  }
  NameUnusedPieces(vocabulary());
  return Status::Ok();
}

Status TextFilesReader::SetAddedToken(const JsonReader& token, int id) {
  COMET_ASSIGN_OR_RETURN(const std::string content, token.String("content"));
  bool is_special = false;
  if (token.Has("special")) {
    COMET_ASSIGN_OR_RETURN(is_special, token.Bool("special"));
  }
  if (content.empty()) return DataLoss(StrCat(token.where(), ".content: is empty"));
  const size_t idx = static_cast<size_t>(id);
  if (idx >= vocabulary().pieces.size()) {
    COMET_RETURN_IF_ERROR(CheckPlain(token));
    return AppendToken(token.where(), content, id, is_special);
  }
  std::string& piece = vocabulary().pieces[idx];
  if (piece == content) return Status::Ok();
  // Reserved tokens get their names here: LLaMA-3's tiktoken file has none.
  const bool is_reserved =
      vocabulary().types[idx] == TokenType::kControl && is_special && FindPiece(content) < 0;
  if (!is_reserved) {
    return DataLoss(StrCat(token.where(), ".content: is \"", content.substr(0, 100),
                           "\", expected \"", piece.substr(0, 100), "\" of ", vocabulary_path_));
  }
  ids_.erase(piece);
  ids_.emplace(content, id);
  piece = content;
  return Status::Ok();
}

// Flags of a token that its vocabulary's own file lacks.
Status TextFilesReader::CheckPlain(const JsonReader& token) const {
  for (const char* key : {"lstrip", "rstrip", "single_word"}) {
    if (!token.Has(key)) continue;
    COMET_ASSIGN_OR_RETURN(const bool is_set, token.Bool(key));
    if (is_set) {
      return Unimplemented(StrCat(token.where(), ".", key, ": is true for a token that ",
                                  vocabulary_path_, " lacks, expected false"));
    }
  }
  return Status::Ok();
}

// The older form of added_tokens_decoder, beside a tokenizer.model: {"<pad>": 32000}.
Status TextFilesReader::ReadAddedTokensFile() {
  if (!vocabulary_path_.ends_with(".model")) return Status::Ok();
  const std::string path = Path("added_tokens.json");
  COMET_ASSIGN_OR_RETURN(const json fields, ReadOptionalJson(path));
  const JsonReader reader(path, fields);
  COMET_ASSIGN_OR_RETURN(const json map, ReadOptionalJson(Path("special_tokens_map.json")));
  const std::set<std::string> specials = TextsOf(map);
  std::map<int, std::string> contents;
  for (const std::string& content : reader.Keys()) {
    COMET_ASSIGN_OR_RETURN(const int64_t id, reader.Int(content, 0, kTokenIdMax));
    if (!contents.emplace(static_cast<int>(id), content).second) {
      return DataLoss(StrCat(path, ": ", id, " is the id of two tokens"));
    }
  }
  for (const auto& [id, content] : contents) {
    if (static_cast<size_t>(id) < vocabulary().pieces.size()) {
      if (vocabulary().pieces[static_cast<size_t>(id)] == content) continue;
      return DataLoss(StrCat(path, ".", content, ": is ", id, ", expected \"",
                             vocabulary().pieces[static_cast<size_t>(id)], "\" of ",
                             vocabulary_path_));
    }
    COMET_RETURN_IF_ERROR(AppendToken(path, content, id, specials.contains(content)));
  }
  NameUnusedPieces(vocabulary());
  return Status::Ok();
}

Status TextFilesReader::AppendToken(const std::string& where, const std::string& content, int id,
                                    bool is_special) {
  const size_t size = static_cast<size_t>(id) + 1;
  if (size - vocabulary().pieces.size() > kUnusedRowsMax) {
    return DataLoss(StrCat(where, ": id is ", id, ", expected at most ", kUnusedRowsMax,
                           " more than the ", vocabulary().pieces.size(), " tokens of ",
                           vocabulary_path_));
  }
  if (FindPiece(content) >= 0) {
    return DataLoss(StrCat(where, ": \"", content.substr(0, 100), "\" is the token ",
                           FindPiece(content), " of ", vocabulary_path_, " too"));
  }
  vocabulary().pieces.resize(size);
  vocabulary().types.resize(size, TokenType::kUnused);
  if (!vocabulary().scores.empty()) vocabulary().scores.resize(size, 0.0f);
  const bool is_escaped = !vocabulary().scores.empty() && !is_special;
  vocabulary().pieces.back() = is_escaped ? EscapeSpaces(content) : content;
  vocabulary().types.back() = is_special ? TokenType::kControl : TokenType::kUserDefined;
  ids_.emplace(content, id);
  return Status::Ok();
}

// ---- BOS, EOS, padding

Status TextFilesReader::ReadSpecialIds(const JsonReader& config, const json& fields) {
  const std::string map_path = Path("special_tokens_map.json");
  COMET_ASSIGN_OR_RETURN(const json map_fields, ReadOptionalJson(map_path));
  const JsonReader map(map_path, map_fields);
  const auto read = [&](const std::string& key, int& id) -> Status {
    bool is_found = false;
    COMET_RETURN_IF_ERROR(ReadSpecialId(config, fields, key, id, is_found));
    return is_found ? Status::Ok() : ReadSpecialId(map, map_fields, key, id, is_found);
  };
  const int bos_of_template = vocabulary().add_bos ? vocabulary().bos_id : -1;
  COMET_RETURN_IF_ERROR(read("bos_token", vocabulary().bos_id));
  if (bos_of_template >= 0 && bos_of_template != vocabulary().bos_id) {
    return DataLoss(StrCat(config.where(), ".bos_token: is token ", vocabulary().bos_id,
                           ", expected ", bos_of_template, ", which ", vocabulary_path_,
                           " puts before a text"));
  }
  COMET_RETURN_IF_ERROR(read("eos_token", vocabulary().eos_id));
  return read("pad_token", vocabulary().padding_id);
}

Status TextFilesReader::ReadSpecialId(const JsonReader& reader, const json& fields,
                                      const std::string& key, int& id, bool& is_found) {
  COMET_ASSIGN_OR_RETURN(const std::optional<std::string> text, FindTokenText(reader, fields, key));
  if (!text.has_value()) return Status::Ok();
  is_found = true;
  id = FindPiece(*text);
  if (id >= 0) return Status::Ok();
  return DataLoss(StrCat(reader.where(), ".", key, ": is \"", text->substr(0, 100),
                         "\", expected a token of ", vocabulary_path_));
}

Status TextFilesReader::ReadFlags(const JsonReader& config) {
  const auto read = [&](std::string_view key, int id, bool& flag) -> Status {
    if (!config.Has(key)) return Status::Ok();
    COMET_ASSIGN_OR_RETURN(flag, config.Bool(key));
    if (!flag || id >= 0) return Status::Ok();
    return DataLoss(StrCat(config.where(), ".", key, ": is true, but no such token is named"));
  };
  COMET_RETURN_IF_ERROR(read("add_bos_token", vocabulary().bos_id, vocabulary().add_bos));
  return read("add_eos_token", vocabulary().eos_id, vocabulary().add_eos);
}

Status TextFilesReader::ReadEosIds() {
  const std::string path = Path("generation_config.json");
  COMET_ASSIGN_OR_RETURN(const json fields, ReadOptionalJson(path));
  const JsonReader config(path, fields);
  if (!config.Has("eos_token_id")) {
    if (vocabulary().eos_id >= 0) files_.eos_ids.push_back(vocabulary().eos_id);
    return Status::Ok();
  }
  COMET_ASSIGN_OR_RETURN(const std::vector<int64_t> ids,
                         config.Ints("eos_token_id", 0, num_rows_ - 1, kEosIdsMax));
  for (const int64_t id : ids) {
    const int eos_id = static_cast<int>(id);
    if (std::ranges::find(files_.eos_ids, eos_id) == files_.eos_ids.end()) {
      files_.eos_ids.push_back(eos_id);
    }
  }
  return Status::Ok();
}

}  // namespace

Result<TextFiles> ReadTextFiles(const std::string& folder, int num_rows) {
  return TextFilesReader(folder, num_rows).Read();
}

}  // namespace comet
