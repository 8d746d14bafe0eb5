#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "engine/loader/json_reader.h"
#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"
#include "kernels/base/str_cat.h"

namespace comet {

// Reads one tokenizer.json: the table and the added tokens in tokenizer_json.cc, the steps around
// the model (normalizer, pre-tokenizer, decoder, post-processor) in tokenizer_json_steps.cc.
// Confined to one call of ParseTokenizerJson(), whose header says what is refused.
class TokenizerJsonParser {
 public:
  TokenizerJsonParser(std::string_view where, const nlohmann::json& root)
      : where_(where), root_(root), reader_(where_, root) {}

  Result<Vocabulary> Parse();

 private:
  // One step of a normalizer, pre-tokenizer, post-processor or decoder.
  struct Component {
    JsonReader reader;
    std::string type;
  };

  Status ParseModel();
  Status ParseVocab(const JsonReader& model, const nlohmann::json& vocab);
  Status ParseMerges(const nlohmann::json& merges);
  Status ParseAddedTokens();
  Status ParseAddedToken(const JsonReader& token);
  Status MarkBytes();
  Status MarkUnknown(const JsonReader& model);

  Status ParseByteLevel(const std::vector<Component>& pre_tokenizers);
  Status ParseByteLevelNormalizers();
  Status ParseSentencePiece(const std::vector<Component>& pre_tokenizers);
  Status ParsePrefixNormalizers(bool& replaces_spaces);
  Status ParseMetaspace(const Component& component);
  Status ParseByteLevelDecoder();
  Status ParseSentencePieceDecoder();
  Status ParsePostProcessor();
  Status ParseTemplate(const Component& component);
  Result<int> TemplateTokenId(const JsonReader& special_tokens, const JsonReader& item) const;

  // The steps under `key`; a Sequence's own steps stand under `list_key`.
  Result<std::vector<Component>> Components(const std::string& key, const std::string& list_key);
  Status Flatten(JsonReader reader, const std::string& list_key, std::vector<Component>& out);
  Status SetPiece(int64_t id, const std::string& piece, const std::string& path);

  std::string Path(std::string_view rest) const { return StrCat(where_, ".", rest); }
  static Status CheckKeys(const JsonReader& reader, std::initializer_list<std::string_view> known);
  static Result<bool> BoolOr(const JsonReader& reader, std::string_view key, bool otherwise);
  // Fails unless the option is absent or has the only value that is supported.
  static Status RequireBool(const JsonReader& reader, std::string_view key, bool supported,
                            bool otherwise);
  static Status RequireString(const JsonReader& reader, std::string_view key,
                              std::string_view supported);
  static Status RefuseType(const Component& component, std::string_view expected);

  const std::string where_;
  const nlohmann::json& root_;
  JsonReader reader_;
  Vocabulary vocabulary_;
  size_t num_ids_max_ = 0;  // What the file's tokens and the holes among them come to.
  std::vector<bool> is_set_;
  std::map<std::string, int, std::less<>> ids_;
  bool byte_fallback_ = false;
  bool fuses_unknown_ = false;
};

}  // namespace comet
