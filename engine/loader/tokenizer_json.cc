#include "engine/loader/tokenizer_json.h"

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/loader/json_reader.h"
#include "engine/loader/vocabulary_padding.h"
#include "engine/tokenizer/byte_symbols.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using nlohmann::json;

constexpr int kDepthMax = 16;             // Published files nest seven deep.
constexpr int64_t kTokenIdMax = 1 << 22;  // Thirty times the largest vocabulary in use.
constexpr size_t kComponentsMax = 16;     // Of a Sequence.
constexpr size_t kAddedTokensMax = 1 << 16;
constexpr std::string_view kEscapedSpace = "\xE2\x96\x81";  // U+2581.

// One step of a normalizer, pre-tokenizer, post-processor or decoder.
struct Component {
  JsonReader reader;
  std::string type;
};

class TokenizerJsonParser {
 public:
  TokenizerJsonParser(std::string_view where, const json& root)
      : where_(where), root_(root), reader_(where_, root) {}

  Result<Vocabulary> Parse();

 private:
  Status ParseModel();
  Status ParseVocab(const JsonReader& model, const json& vocab);
  Status ParseMerges(const json& merges);
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
  const json& root_;
  JsonReader reader_;
  Vocabulary vocabulary_;
  std::vector<bool> is_set_;
  std::map<std::string, int, std::less<>> ids_;
  bool byte_fallback_ = false;
  bool fuses_unknown_ = false;
};

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

Result<std::vector<Component>> TokenizerJsonParser::Components(const std::string& key,
                                                               const std::string& list_key) {
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

// ---- byte-level BPE

Status TokenizerJsonParser::ParseByteLevel(const std::vector<Component>& pre_tokenizers) {
  vocabulary_.kind = TokenizerKind::kByteLevelBpe;
  if (byte_fallback_) {
    return Unimplemented(Path("model.byte_fallback: is true beside a ByteLevel pre-tokenizer"));
  }
  COMET_RETURN_IF_ERROR(ParseByteLevelNormalizers());
  COMET_RETURN_IF_ERROR(ParseByteLevelDecoder());
  if (vocabulary_.unknown_id >= 0) {
    for (int byte = 0; byte < 256; ++byte) {
      if (ids_.contains(ByteSymbol(static_cast<uint8_t>(byte)))) continue;
      return Unimplemented(Path(StrCat("model.unk_token: would stand for byte ", byte,
                                       ", which has no token, expected none")));
    }
  }
  const Component& last = pre_tokenizers.back();
  if (last.type != "ByteLevel") return RefuseType(last, "ByteLevel as the last step");
  COMET_RETURN_IF_ERROR(
      CheckKeys(last.reader, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  COMET_RETURN_IF_ERROR(RequireBool(last.reader, "add_prefix_space", false, true));
  if (pre_tokenizers.size() == 1) {
    vocabulary_.pre_tokenizer = "gpt-2";
    return RequireBool(last.reader, "use_regex", true, true);
  }
  const Component& first = pre_tokenizers.front();
  if (pre_tokenizers.size() > 2) {
    return Unimplemented(
        Path(StrCat("pre_tokenizer: has ", pre_tokenizers.size(), " steps, expected at most 2")));
  }
  if (first.type == "Digits") {
    COMET_RETURN_IF_ERROR(CheckKeys(first.reader, {"type", "individual_digits"}));
    COMET_RETURN_IF_ERROR(RequireBool(first.reader, "individual_digits", true, false));
    vocabulary_.pre_tokenizer = "smollm";
    return RequireBool(last.reader, "use_regex", true, true);
  }
  if (first.type != "Split") return RefuseType(first, "Digits or Split before ByteLevel");
  COMET_RETURN_IF_ERROR(CheckKeys(first.reader, {"type", "pattern", "behavior", "invert"}));
  COMET_RETURN_IF_ERROR(RequireString(first.reader, "behavior", "Isolated"));
  COMET_RETURN_IF_ERROR(RequireBool(first.reader, "invert", false, false));
  COMET_ASSIGN_OR_RETURN(const JsonReader pattern, first.reader.Object("pattern"));
  COMET_RETURN_IF_ERROR(CheckKeys(pattern, {"Regex"}));
  COMET_ASSIGN_OR_RETURN(const std::string regex, pattern.String("Regex"));
  vocabulary_.pre_tokenizer = PreTokenizer::NameOfSplit(regex);
  if (vocabulary_.pre_tokenizer.empty()) {
    return Unimplemented(StrCat(pattern.where(), ".Regex: is \"", regex.substr(0, 200),
                                "\", expected the pattern of GPT-2, LLaMA-3 or Qwen2"));
  }
  return RequireBool(last.reader, "use_regex", false, true);
}

Status TokenizerJsonParser::ParseByteLevelNormalizers() {
  COMET_ASSIGN_OR_RETURN(const std::vector<Component> normalizers,
                         Components("normalizer", "normalizers"));
  for (const Component& normalizer : normalizers) {
    if (normalizer.type != "NFC") return RefuseType(normalizer, "NFC");
    COMET_RETURN_IF_ERROR(CheckKeys(normalizer.reader, {"type"}));
    vocabulary_.normalizes_nfc = true;
  }
  if (vocabulary_.normalizes_nfc) return Status::Ok();
  // Without a normaliser the normalised text is the text.
  for (AddedTokenRule& rule : vocabulary_.added_token_rules) rule.is_normalized = false;
  std::erase_if(vocabulary_.added_token_rules, [](const AddedTokenRule& rule) {
    return rule == AddedTokenRule{.token_id = rule.token_id};
  });
  return Status::Ok();
}

Status TokenizerJsonParser::ParseByteLevelDecoder() {
  COMET_ASSIGN_OR_RETURN(const std::vector<Component> decoders, Components("decoder", "decoders"));
  if (decoders.size() != 1) {
    return Unimplemented(
        Path(StrCat("decoder: has ", decoders.size(), " steps, expected ByteLevel alone")));
  }
  if (decoders[0].type != "ByteLevel") return RefuseType(decoders[0], "ByteLevel");
  return CheckKeys(decoders[0].reader, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
}

// ---- SentencePiece's pieces

Status TokenizerJsonParser::ParseSentencePiece(const std::vector<Component>& pre_tokenizers) {
  vocabulary_.kind = TokenizerKind::kSentencePiece;
  if (vocabulary_.merges.empty()) return DataLoss(Path("model.merges: is empty"));
  if (vocabulary_.ignores_merges) {
    return Unimplemented(Path("model.ignore_merges: is true, expected false without ByteLevel"));
  }
  if (!byte_fallback_ && !fuses_unknown_) {
    return Unimplemented(Path("model.fuse_unk: is false, expected true without byte_fallback"));
  }
  bool replaces_spaces = false;
  COMET_RETURN_IF_ERROR(ParsePrefixNormalizers(replaces_spaces));
  if (pre_tokenizers.size() > 1) {
    return Unimplemented(
        Path(StrCat("pre_tokenizer: has ", pre_tokenizers.size(), " steps, expected at most 1")));
  }
  if (!pre_tokenizers.empty()) {
    if (replaces_spaces) return RefuseType(pre_tokenizers[0], "none beside normalizers");
    COMET_RETURN_IF_ERROR(ParseMetaspace(pre_tokenizers[0]));
  } else if (!replaces_spaces) {
    return Unimplemented(
        Path("pre_tokenizer: nothing turns spaces into U+2581, expected Metaspace, or Replace as a "
             "normalizer"));
  }
  COMET_RETURN_IF_ERROR(MarkBytes());
  return ParseSentencePieceDecoder();
}

Status TokenizerJsonParser::ParsePrefixNormalizers(bool& replaces_spaces) {
  COMET_ASSIGN_OR_RETURN(const std::vector<Component> normalizers,
                         Components("normalizer", "normalizers"));
  for (const Component& normalizer : normalizers) {
    if (normalizer.type == "Prepend" && !replaces_spaces && !vocabulary_.add_space_prefix) {
      COMET_RETURN_IF_ERROR(CheckKeys(normalizer.reader, {"type", "prepend"}));
      COMET_RETURN_IF_ERROR(RequireString(normalizer.reader, "prepend", kEscapedSpace));
      vocabulary_.add_space_prefix = true;
    } else if (normalizer.type == "Replace" && !replaces_spaces) {
      COMET_RETURN_IF_ERROR(CheckKeys(normalizer.reader, {"type", "pattern", "content"}));
      COMET_ASSIGN_OR_RETURN(const JsonReader pattern, normalizer.reader.Object("pattern"));
      COMET_RETURN_IF_ERROR(CheckKeys(pattern, {"String"}));
      COMET_RETURN_IF_ERROR(RequireString(pattern, "String", " "));
      COMET_RETURN_IF_ERROR(RequireString(normalizer.reader, "content", kEscapedSpace));
      replaces_spaces = true;
    } else {
      return RefuseType(normalizer, "Prepend, then Replace, each at most once");
    }
  }
  return Status::Ok();
}

Status TokenizerJsonParser::ParseMetaspace(const Component& component) {
  if (component.type != "Metaspace") return RefuseType(component, "Metaspace");
  if (vocabulary_.add_space_prefix) {
    return RefuseType(component, "none beside a Prepend normalizer");
  }
  const JsonReader& reader = component.reader;
  COMET_RETURN_IF_ERROR(CheckKeys(reader, {"type", "replacement", "prepend_scheme", "split"}));
  COMET_RETURN_IF_ERROR(RequireString(reader, "replacement", kEscapedSpace));
  COMET_RETURN_IF_ERROR(RequireBool(reader, "split", false, true));
  COMET_ASSIGN_OR_RETURN(const std::string scheme, reader.String("prepend_scheme"));
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return Unimplemented(StrCat(reader.where(), ".prepend_scheme: is \"", scheme.substr(0, 100),
                                "\", expected always, first or never"));
  }
  vocabulary_.add_space_prefix = scheme != "never";
  vocabulary_.space_prefix =
      scheme == "first" ? SpacePrefix::kStartUnlessSpace : SpacePrefix::kEachPartUnlessSpace;
  // No normaliser is at work: the normalised text is the text.
  for (AddedTokenRule& rule : vocabulary_.added_token_rules) rule.is_normalized = false;
  std::erase_if(vocabulary_.added_token_rules, [](const AddedTokenRule& rule) {
    return rule == AddedTokenRule{.token_id = rule.token_id};
  });
  return Status::Ok();
}

Status TokenizerJsonParser::MarkBytes() {
  if (vocabulary_.unknown_id >= 0) {
    vocabulary_.types[static_cast<size_t>(vocabulary_.unknown_id)] = TokenType::kUnknown;
  }
  if (!byte_fallback_) return Status::Ok();
  for (int byte = 0; byte < 256; ++byte) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    const auto digit = [&](int value) { return kDigits[static_cast<size_t>(value)]; };
    const std::string piece = StrCat("<0x", digit(byte / 16), digit(byte % 16), ">");
    const auto found = ids_.find(piece);
    if (found == ids_.end()) {
      return DataLoss(Path(StrCat("model.byte_fallback: is true, but ", piece, " has no id")));
    }
    vocabulary_.types[static_cast<size_t>(found->second)] = TokenType::kByte;
  }
  return Status::Ok();
}

// Replace, ByteFallback, Fuse, and Strip where a space was put in front.
Status TokenizerJsonParser::ParseSentencePieceDecoder() {
  std::vector<std::string_view> expected = {"Replace"};
  if (byte_fallback_) expected.push_back("ByteFallback");
  expected.push_back("Fuse");
  if (vocabulary_.add_space_prefix) expected.push_back("Strip");
  COMET_ASSIGN_OR_RETURN(const std::vector<Component> decoders, Components("decoder", "decoders"));
  if (decoders.size() != expected.size()) {
    return Unimplemented(Path(StrCat("decoder: has ", decoders.size(), " steps, expected ",
                                     expected.size(), ", the last of them ", expected.back())));
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    const JsonReader& reader = decoders[i].reader;
    if (decoders[i].type != expected[i]) return RefuseType(decoders[i], expected[i]);
    if (expected[i] == "Replace") {
      COMET_RETURN_IF_ERROR(CheckKeys(reader, {"type", "pattern", "content"}));
      COMET_ASSIGN_OR_RETURN(const JsonReader pattern, reader.Object("pattern"));
      COMET_RETURN_IF_ERROR(CheckKeys(pattern, {"String"}));
      COMET_RETURN_IF_ERROR(RequireString(pattern, "String", kEscapedSpace));
      COMET_RETURN_IF_ERROR(RequireString(reader, "content", " "));
    } else if (expected[i] == "Strip") {
      COMET_RETURN_IF_ERROR(CheckKeys(reader, {"type", "content", "start", "stop"}));
      COMET_RETURN_IF_ERROR(RequireString(reader, "content", " "));
      COMET_RETURN_IF_ERROR(reader.Int("start", 1, 1).status());
      COMET_RETURN_IF_ERROR(reader.Int("stop", 0, 0).status());
    } else {
      COMET_RETURN_IF_ERROR(CheckKeys(reader, {"type"}));
    }
  }
  return Status::Ok();
}

// ---- BOS and EOS

Status TokenizerJsonParser::ParsePostProcessor() {
  COMET_ASSIGN_OR_RETURN(const std::vector<Component> steps,
                         Components("post_processor", "processors"));
  bool has_template = false;
  for (const Component& step : steps) {
    if (step.type == "ByteLevel") {  // Moves offsets into the text, which nobody asks for.
      COMET_RETURN_IF_ERROR(
          CheckKeys(step.reader, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
    } else if (step.type == "TemplateProcessing" && !has_template) {
      has_template = true;
      COMET_RETURN_IF_ERROR(ParseTemplate(step));
    } else {
      return RefuseType(step, "ByteLevel, or TemplateProcessing once");
    }
  }
  return Status::Ok();
}

Status TokenizerJsonParser::ParseTemplate(const Component& component) {
  const JsonReader& reader = component.reader;
  COMET_RETURN_IF_ERROR(CheckKeys(reader, {"type", "single", "pair", "special_tokens"}));
  COMET_ASSIGN_OR_RETURN(const JsonReader special_tokens, reader.Object("special_tokens"));
  COMET_ASSIGN_OR_RETURN(const std::vector<JsonReader> items, reader.Objects("single", 3));
  bool has_text = false;
  for (const JsonReader& item : items) {
    COMET_RETURN_IF_ERROR(CheckKeys(item, {"SpecialToken", "Sequence"}));
    if (item.Has("Sequence")) {
      COMET_ASSIGN_OR_RETURN(const JsonReader sequence, item.Object("Sequence"));
      COMET_RETURN_IF_ERROR(RequireString(sequence, "id", "A"));
      if (has_text) return Unimplemented(StrCat(item.where(), ": is a second Sequence"));
      has_text = true;
      continue;
    }
    COMET_ASSIGN_OR_RETURN(const int id, TemplateTokenId(special_tokens, item));
    bool& is_added = has_text ? vocabulary_.add_eos : vocabulary_.add_bos;
    if (is_added) {
      return Unimplemented(StrCat(item.where(), ": is a second token on its side of the text"));
    }
    is_added = true;
    (has_text ? vocabulary_.eos_id : vocabulary_.bos_id) = id;
  }
  if (!has_text) return DataLoss(StrCat(reader.where(), ".single: has no Sequence"));
  return Status::Ok();
}

Result<int> TokenizerJsonParser::TemplateTokenId(const JsonReader& special_tokens,
                                                 const JsonReader& item) const {
  COMET_ASSIGN_OR_RETURN(const JsonReader token, item.Object("SpecialToken"));
  COMET_ASSIGN_OR_RETURN(const std::string name, token.String("id"));
  COMET_ASSIGN_OR_RETURN(const JsonReader entry, special_tokens.Object(name));
  const int64_t last_id = static_cast<int64_t>(vocabulary_.pieces.size()) - 1;
  COMET_ASSIGN_OR_RETURN(const std::vector<int64_t> ids, entry.Ints("ids", 0, last_id, 1));
  if (ids.empty()) return DataLoss(StrCat(entry.where(), ".ids: is empty"));
  return static_cast<int>(ids[0]);
}

}  // namespace

Result<Vocabulary> ParseTokenizerJson(std::string_view where, std::string_view text) {
  COMET_ASSIGN_OR_RETURN(const json root, ParseJson(where, text, kDepthMax));
  return TokenizerJsonParser(where, root).Parse();
}

}  // namespace comet
