#include "engine/loader/tokenizer_json.h"

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/loader/json_reader.h"
#include "engine/loader/tokenizer_json_parser.h"
#include "engine/loader/vocabulary_padding.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using nlohmann::json;

constexpr int kDepthMax = 16;             // Published files nest seven deep.
constexpr int64_t kTokenIdMax = 1 << 22;  // Thirty times the largest vocabulary in use.
constexpr size_t kComponentsMax = 16;     // Of a Sequence.
constexpr size_t kAddedTokensMax = 1 << 16;

}  // namespace

// ---- small checks

Status TokenizerJsonParser::CheckKeys(const JsonReader& reader,
                                      std::initializer_list<std::string_view> known) {
  for (const std::string& key : reader.Keys()) {
    if (std::ranges::find(known, key) == known.end()) {
      return Unimplemented(StrCat(reader.where(), ".", key, ": is not a field known here"));
    }
  }
  return Status::Ok();
}

Result<bool> TokenizerJsonParser::BoolOr(const JsonReader& reader, std::string_view key,
                                         bool otherwise) {
  if (!reader.Has(key)) return otherwise;
  return reader.Bool(key);
}

Status TokenizerJsonParser::RequireBool(const JsonReader& reader, std::string_view key,
                                        bool supported, bool otherwise) {
  COMET_ASSIGN_OR_RETURN(const bool value, BoolOr(reader, key, otherwise));
  if (value == supported) return Status::Ok();
  return Unimplemented(StrCat(reader.where(), ".", key, ": is ", value ? "true" : "false",
                              ", expected ", supported ? "true" : "false"));
}

Status TokenizerJsonParser::RequireString(const JsonReader& reader, std::string_view key,
                                          std::string_view supported) {
  COMET_ASSIGN_OR_RETURN(const std::string value, reader.String(key));
  if (value == supported) return Status::Ok();
  return Unimplemented(StrCat(reader.where(), ".", key, ": is \"", value.substr(0, 200),
                              "\", expected \"", supported, "\""));
}

Status TokenizerJsonParser::RefuseType(const Component& component, std::string_view expected) {
  return Unimplemented(StrCat(component.reader.where(), ".type: is \"",
                              component.type.substr(0, 100), "\", expected ", expected));
}

Result<std::vector<TokenizerJsonParser::Component>> TokenizerJsonParser::Components(
    const std::string& key, const std::string& list_key) {
  std::vector<Component> components;
  if (!reader_.Has(key)) return components;
  COMET_ASSIGN_OR_RETURN(const JsonReader reader, reader_.Object(key));
  COMET_RETURN_IF_ERROR(Flatten(reader, list_key, components));
  return components;
}

// Nesting is bounded by that of the file.
Status TokenizerJsonParser::Flatten(JsonReader reader, const std::string& list_key,
                                    std::vector<Component>& out) {
  COMET_ASSIGN_OR_RETURN(std::string type, reader.String("type"));
  if (type != "Sequence") {
    out.push_back({std::move(reader), std::move(type)});
    return Status::Ok();
  }
  COMET_RETURN_IF_ERROR(CheckKeys(reader, {"type", list_key}));
  COMET_ASSIGN_OR_RETURN(const std::vector<JsonReader> steps,
                         reader.Objects(list_key, kComponentsMax));
  for (const JsonReader& step : steps) {
    COMET_RETURN_IF_ERROR(Flatten(step, list_key, out));
    if (out.size() > kComponentsMax) {
      return Unimplemented(StrCat(reader.where(), ": has more than ", kComponentsMax, " steps"));
    }
  }
  return Status::Ok();
}

// ---- the whole

Result<Vocabulary> TokenizerJsonParser::Parse() {
  COMET_RETURN_IF_ERROR(reader_.CheckObject());
  COMET_RETURN_IF_ERROR(
      CheckKeys(reader_, {"version", "truncation", "padding", "added_tokens", "normalizer",
                          "pre_tokenizer", "post_processor", "decoder", "model"}));
  COMET_RETURN_IF_ERROR(ParseModel());
  COMET_RETURN_IF_ERROR(ParseAddedTokens());
  COMET_ASSIGN_OR_RETURN(const std::vector<Component> pre_tokenizers,
                         Components("pre_tokenizer", "pretokenizers"));
  const bool is_byte_level = std::ranges::any_of(
      pre_tokenizers, [](const Component& component) { return component.type == "ByteLevel"; });
  COMET_RETURN_IF_ERROR(is_byte_level ? ParseByteLevel(pre_tokenizers)
                                      : ParseSentencePiece(pre_tokenizers));
  COMET_RETURN_IF_ERROR(ParsePostProcessor());
  return std::move(vocabulary_);
}

// ---- model

Status TokenizerJsonParser::ParseModel() {
  COMET_ASSIGN_OR_RETURN(const JsonReader model, reader_.Object("model"));
  COMET_RETURN_IF_ERROR(RequireString(model, "type", "BPE"));
  COMET_RETURN_IF_ERROR(CheckKeys(
      model, {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
              "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}));
  if (model.Has("dropout")) {
    COMET_ASSIGN_OR_RETURN(const double dropout, model.Number("dropout", 0, 1));
    if (dropout != 0) {
      return Unimplemented(StrCat(model.where(), ".dropout: is ", dropout, ", expected none"));
    }
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (model.Has(key)) COMET_RETURN_IF_ERROR(RequireString(model, key, ""));
  }
  COMET_ASSIGN_OR_RETURN(byte_fallback_, BoolOr(model, "byte_fallback", false));
  COMET_ASSIGN_OR_RETURN(fuses_unknown_, BoolOr(model, "fuse_unk", false));
  COMET_ASSIGN_OR_RETURN(vocabulary_.ignores_merges, BoolOr(model, "ignore_merges", false));
  const json& fields = root_.at("model");
  COMET_ASSIGN_OR_RETURN(const JsonReader vocab, model.Object("vocab"));
  COMET_RETURN_IF_ERROR(ParseVocab(vocab, fields.at("vocab")));
  const auto merges = fields.find("merges");
  if (merges == fields.end() || !merges->is_array()) {
    return DataLoss(Path("model.merges: is not an array"));
  }
  COMET_RETURN_IF_ERROR(ParseMerges(*merges));
  return MarkUnknown(model);
}

Status TokenizerJsonParser::ParseVocab(const JsonReader& vocab, const json& entries) {
  if (entries.empty()) return DataLoss(StrCat(vocab.where(), ": is empty"));
  const auto added = root_.find("added_tokens");
  const size_t num_added = added != root_.end() && added->is_array() ? added->size() : 0;
  num_ids_max_ = entries.size() + num_added + kUnusedRowsMax;
  for (const auto& [piece, value] : entries.items()) {
    COMET_ASSIGN_OR_RETURN(const int64_t id, vocab.Int(piece, 0, kTokenIdMax));
    COMET_RETURN_IF_ERROR(SetPiece(id, piece, StrCat(vocab.where(), ".", piece)));
  }
  return Status::Ok();
}

// Ids are dense but for a few holes, so memory stays in proportion to the file.
Status TokenizerJsonParser::SetPiece(int64_t id, const std::string& piece,
                                     const std::string& path) {
  const size_t idx = static_cast<size_t>(id);
  if (idx >= num_ids_max_) {
    return DataLoss(StrCat(path, ": is ", id, ", expected below ", num_ids_max_, ": at most ",
                           kUnusedRowsMax, " ids have no token"));
  }
  if (idx < is_set_.size() && is_set_[idx]) {
    return DataLoss(StrCat(path, ": is ", id, ", the id of \"", vocabulary_.pieces[idx], "\" too"));
  }
  if (idx >= is_set_.size()) {
    vocabulary_.pieces.resize(idx + 1);
    vocabulary_.types.resize(idx + 1, TokenType::kUnused);
    is_set_.resize(idx + 1, false);
  }
  vocabulary_.pieces[idx] = piece;
  vocabulary_.types[idx] = TokenType::kNormal;
  is_set_[idx] = true;
  ids_.emplace(piece, static_cast<int>(id));
  return Status::Ok();
}

Status TokenizerJsonParser::ParseMerges(const json& merges) {
  vocabulary_.merges.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    const json& merge = merges[i];
    const bool is_pair =
        merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    std::string text;
    if (merge.is_string()) text = merge.get_ref<const std::string&>();
    if (is_pair) {
      text = StrCat(merge[0].get_ref<const std::string&>(), " ",
                    merge[1].get_ref<const std::string&>());
    }
    const size_t space = text.find(' ');
    const bool is_clear = space != std::string::npos && space > 0 && space + 1 < text.size() &&
                          text.find(' ', space + 1) == std::string::npos;
    if (!is_clear) {
      return DataLoss(Path(StrCat(
          "model.merges[", i, "]: is ",
          is_pair || merge.is_string() ? StrCat("\"", text, "\"") : "neither text nor a pair",
          ", expected two pieces without spaces")));
    }
    vocabulary_.merges.push_back(std::move(text));
  }
  return Status::Ok();
}

Status TokenizerJsonParser::MarkUnknown(const JsonReader& model) {
  if (!model.Has("unk_token")) return Status::Ok();
  COMET_ASSIGN_OR_RETURN(const std::string piece, model.String("unk_token"));
  const auto found = ids_.find(piece);
  if (found == ids_.end()) {
    return DataLoss(StrCat(model.where(), ".unk_token: is \"", piece, "\", not in the vocabulary"));
  }
  vocabulary_.unknown_id = found->second;
  return Status::Ok();
}

// ---- added tokens

Status TokenizerJsonParser::ParseAddedTokens() {
  if (reader_.Has("added_tokens")) {
    COMET_ASSIGN_OR_RETURN(const std::vector<JsonReader> tokens,
                           reader_.Objects("added_tokens", kAddedTokensMax));
    for (const JsonReader& token : tokens) COMET_RETURN_IF_ERROR(ParseAddedToken(token));
  }
  const auto num_holes = std::ranges::count(is_set_, false);
  if (num_holes > kUnusedRowsMax) {
    return DataLoss(Path(StrCat("model.vocab: ", num_holes, " of ", is_set_.size(),
                                " ids have no token, expected at most ", kUnusedRowsMax)));
  }
  NameUnusedPieces(vocabulary_);
  return Status::Ok();
}

Status TokenizerJsonParser::ParseAddedToken(const JsonReader& token) {
  COMET_RETURN_IF_ERROR(CheckKeys(
      token, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
  COMET_ASSIGN_OR_RETURN(const int64_t id, token.Int("id", 0, kTokenIdMax));
  COMET_ASSIGN_OR_RETURN(const std::string content, token.String("content"));
  if (content.empty()) return DataLoss(StrCat(token.where(), ".content: is empty"));
  const auto found = ids_.find(content);
  if (found == ids_.end()) {
    COMET_RETURN_IF_ERROR(SetPiece(id, content, token.where() + ".id"));
  } else if (found->second != id) {
    return DataLoss(StrCat(token.where(), ".id: is ", id, ", expected ", found->second,
                           ", the id of \"", content, "\" in model.vocab"));
  }
  COMET_ASSIGN_OR_RETURN(const bool is_special, BoolOr(token, "special", false));
  vocabulary_.types[static_cast<size_t>(id)] =
      is_special ? TokenType::kControl : TokenType::kUserDefined;

  AddedTokenRule rule;
  rule.token_id = static_cast<int>(id);
  COMET_ASSIGN_OR_RETURN(rule.strips_left, BoolOr(token, "lstrip", false));
  COMET_ASSIGN_OR_RETURN(rule.strips_right, BoolOr(token, "rstrip", false));
  COMET_ASSIGN_OR_RETURN(rule.is_whole_word, BoolOr(token, "single_word", false));
  COMET_ASSIGN_OR_RETURN(rule.is_normalized, BoolOr(token, "normalized", !is_special));
  if (is_special) rule.is_normalized = false;
  if (rule != AddedTokenRule{.token_id = rule.token_id}) {
    vocabulary_.added_token_rules.push_back(rule);
  }
  return Status::Ok();
}

Result<Vocabulary> ParseTokenizerJson(std::string_view where, std::string_view text) {
  COMET_ASSIGN_OR_RETURN(const json root, ParseJson(where, text, kDepthMax));
  return TokenizerJsonParser(where, root).Parse();
}

}  // namespace comet
