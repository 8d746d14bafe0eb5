#include <string>
#include <string_view>
#include <vector>

#include "engine/loader/tokenizer_json_parser.h"
#include "engine/tokenizer/byte_symbols.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr std::string_view kEscapedSpace = "\xE2\x96\x81";  // U+2581.

}  // namespace

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

}  // namespace comet
