#include "engine/loader/gguf_vocabulary.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int64_t kNoId = std::numeric_limits<uint32_t>::max();  // How GGUF writes "none".

// What GGUF has no keys for; our own, in the vocabulary of a checkpoint.
constexpr std::string_view kJoinsByRankKey = "tokenizer.comet.joins_by_rank";
constexpr std::string_view kIgnoresMergesKey = "tokenizer.comet.ignores_merges";
constexpr std::string_view kNormalizesNfcKey = "tokenizer.comet.normalizes_nfc";
constexpr std::string_view kSpacePrefixKey = "tokenizer.comet.space_prefix";
constexpr std::string_view kRuleTokensKey = "tokenizer.comet.added_token_rules.token_ids";
constexpr std::string_view kRuleFlagsKey = "tokenizer.comet.added_token_rules.flags";

// Bits of an added token's rule.
constexpr int64_t kStripsLeft = 1;
constexpr int64_t kStripsRight = 2;
constexpr int64_t kIsWholeWord = 4;
constexpr int64_t kIsNormalized = 8;
constexpr int64_t kRuleFlagsEnd = 16;

Result<int> ReadTokenId(const GgufFile& file, std::string_view key, int default_id,
                        size_t vocab_size) {
  COMET_ASSIGN_OR_RETURN(const std::optional<int64_t> id, file.FindInt(key));
  if (!id.has_value()) return default_id < static_cast<int>(vocab_size) ? default_id : -1;
  if (*id == kNoId || *id == -1) return -1;
  if (*id < 0 || *id >= static_cast<int64_t>(vocab_size)) {
    return DataLoss(
        StrCat(file.path(), ": ", key, ": is ", *id, ", expected 0 to ", vocab_size, " exclusive"));
  }
  return static_cast<int>(*id);
}

Result<TokenizerKind> ReadKind(const GgufFile& file) {
  COMET_ASSIGN_OR_RETURN(const std::optional<std::string> model,
                         file.FindString("tokenizer.ggml.model"));
  if (!model.has_value()) {
    return DataLoss(StrCat(file.path(), ": tokenizer.ggml.model: is absent, expected a string"));
  }
  if (*model == "gpt2") return TokenizerKind::kByteLevelBpe;
  if (*model == "llama") return TokenizerKind::kSentencePiece;
  return Unimplemented(StrCat(file.path(), ": tokenizer.ggml.model: is \"", *model,
                              "\", expected \"gpt2\" or \"llama\""));
}

Status ReadPieces(const GgufFile& file, Vocabulary& vocabulary) {
  COMET_ASSIGN_OR_RETURN(const std::vector<std::string_view> pieces,
                         file.FindStrings("tokenizer.ggml.tokens"));
  if (pieces.empty()) {
    return DataLoss(StrCat(file.path(), ": tokenizer.ggml.tokens: is absent or empty"));
  }
  vocabulary.pieces.assign(pieces.begin(), pieces.end());
  COMET_ASSIGN_OR_RETURN(const std::vector<std::string_view> merges,
                         file.FindStrings("tokenizer.ggml.merges"));
  COMET_ASSIGN_OR_RETURN(const std::optional<bool> joins_by_rank, file.FindBool(kJoinsByRankKey));
  if (vocabulary.kind == TokenizerKind::kByteLevelBpe || joins_by_rank.value_or(false)) {
    vocabulary.merges.assign(merges.begin(), merges.end());
  }
  return Status::Ok();
}

Status ReadTypes(const GgufFile& file, Vocabulary& vocabulary) {
  COMET_ASSIGN_OR_RETURN(const std::vector<int64_t> types,
                         file.FindInts("tokenizer.ggml.token_type"));
  if (types.empty()) {
    vocabulary.types.assign(vocabulary.pieces.size(), TokenType::kNormal);
    return Status::Ok();
  }
  if (types.size() != vocabulary.pieces.size()) {
    return DataLoss(StrCat(file.path(), ": tokenizer.ggml.token_type: has ", types.size(),
                           " entries, expected ", vocabulary.pieces.size()));
  }
  vocabulary.types.reserve(types.size());
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] < 1 || types[i] > 6) {
      return DataLoss(StrCat(file.path(), ": tokenizer.ggml.token_type: entry ", i, " is ",
                             types[i], ", expected 1 to 6"));
    }
    vocabulary.types.push_back(static_cast<TokenType>(types[i]));
  }
  return Status::Ok();
}

Status ReadScores(const GgufFile& file, Vocabulary& vocabulary) {
  const bool has_scores =
      vocabulary.kind == TokenizerKind::kSentencePiece && vocabulary.merges.empty();
  if (!has_scores) return Status::Ok();
  COMET_ASSIGN_OR_RETURN(vocabulary.scores, file.FindFloats("tokenizer.ggml.scores"));
  if (vocabulary.scores.size() != vocabulary.pieces.size()) {
    return DataLoss(StrCat(file.path(), ": tokenizer.ggml.scores: has ", vocabulary.scores.size(),
                           " entries, expected ", vocabulary.pieces.size()));
  }
  return Status::Ok();
}

Status ReadFlags(const GgufFile& file, Vocabulary& vocabulary) {
  const bool is_sentence_piece = vocabulary.kind == TokenizerKind::kSentencePiece;
  static constexpr std::string_view kPreTokenizersWithBos[] = {"llama3", "llama-v3", "llama-bpe",
                                                               "tekken"};
  const bool is_listed = std::ranges::find(kPreTokenizersWithBos, vocabulary.pre_tokenizer) !=
                         std::end(kPreTokenizersWithBos);
  COMET_ASSIGN_OR_RETURN(const std::optional<bool> add_bos,
                         file.FindBool("tokenizer.ggml.add_bos_token"));
  COMET_ASSIGN_OR_RETURN(const std::optional<bool> add_eos,
                         file.FindBool("tokenizer.ggml.add_eos_token"));
  COMET_ASSIGN_OR_RETURN(const std::optional<bool> add_space_prefix,
                         file.FindBool("tokenizer.ggml.add_space_prefix"));
  vocabulary.add_bos = add_bos.value_or(is_sentence_piece || is_listed);
  vocabulary.add_eos = add_eos.value_or(false);
  vocabulary.add_space_prefix = is_sentence_piece && add_space_prefix.value_or(true);
  COMET_ASSIGN_OR_RETURN(const std::optional<bool> ignores_merges,
                         file.FindBool(kIgnoresMergesKey));
  COMET_ASSIGN_OR_RETURN(const std::optional<bool> normalizes_nfc,
                         file.FindBool(kNormalizesNfcKey));
  COMET_ASSIGN_OR_RETURN(const std::optional<int64_t> space_prefix, file.FindInt(kSpacePrefixKey));
  const bool is_llama3 = is_listed && vocabulary.pre_tokenizer != "tekken";
  vocabulary.ignores_merges = ignores_merges.value_or(is_llama3);
  vocabulary.normalizes_nfc = normalizes_nfc.value_or(false);
  if (space_prefix.value_or(0) < 0 || space_prefix.value_or(0) > 2) {
    return DataLoss(
        StrCat(file.path(), ": ", kSpacePrefixKey, ": is ", *space_prefix, ", expected 0 to 2"));
  }
  vocabulary.space_prefix = static_cast<SpacePrefix>(space_prefix.value_or(0));
  return Status::Ok();
}

Status ReadAddedTokenRules(const GgufFile& file, Vocabulary& vocabulary) {
  COMET_ASSIGN_OR_RETURN(const std::vector<int64_t> ids, file.FindInts(kRuleTokensKey));
  COMET_ASSIGN_OR_RETURN(const std::vector<int64_t> flags, file.FindInts(kRuleFlagsKey));
  if (ids.size() != flags.size()) {
    return DataLoss(StrCat(file.path(), ": ", kRuleFlagsKey, ": has ", flags.size(),
                           " entries, expected ", ids.size()));
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool is_token = ids[i] >= 0 && ids[i] < static_cast<int64_t>(vocabulary.pieces.size());
    if (!is_token || flags[i] < 0 || flags[i] >= kRuleFlagsEnd) {
      return DataLoss(StrCat(file.path(), ": ", kRuleTokensKey, ": entry ", i, " is ", ids[i],
                             " with flags ", flags[i], ", expected a token and flags below ",
                             kRuleFlagsEnd));
    }
    vocabulary.added_token_rules.push_back({.token_id = static_cast<int>(ids[i]),
                                            .strips_left = (flags[i] & kStripsLeft) != 0,
                                            .strips_right = (flags[i] & kStripsRight) != 0,
                                            .is_whole_word = (flags[i] & kIsWholeWord) != 0,
                                            .is_normalized = (flags[i] & kIsNormalized) != 0});
  }
  return Status::Ok();
}

int FlagsOf(const AddedTokenRule& rule) {
  int64_t flags = 0;
  if (rule.strips_left) flags |= kStripsLeft;
  if (rule.strips_right) flags |= kStripsRight;
  if (rule.is_whole_word) flags |= kIsWholeWord;
  if (rule.is_normalized) flags |= kIsNormalized;
  return static_cast<int>(flags);
}

// Appends a GGUF file front to back. Little-endian, as every host we build for.
class GgufBytes {
 public:
  template <typename T>
  void Number(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes_.append(raw, sizeof(T));
  }
  void Text(std::string_view text) {
    Number(static_cast<uint64_t>(text.size()));
    bytes_ += text;
  }
  void Key(std::string_view key, GgufValueType type) {
    Text(key);
    Number(static_cast<uint32_t>(type));
    ++num_keys_;
  }
  void ArrayKey(std::string_view key, GgufValueType type, size_t count) {
    Key(key, GgufValueType::kArray);
    Number(static_cast<uint32_t>(type));
    Number(static_cast<uint64_t>(count));
  }
  void Texts(std::string_view key, std::span<const std::string> texts) {
    ArrayKey(key, GgufValueType::kString, texts.size());
    for (const std::string& text : texts) Text(text);
  }
  void Flag(std::string_view key, bool flag) {
    Key(key, GgufValueType::kBool);
    Number(static_cast<uint8_t>(flag ? 1 : 0));
  }
  void TokenId(std::string_view key, int id) {
    Key(key, GgufValueType::kU32);
    Number(static_cast<uint32_t>(id));  // -1 becomes GGUF's "none".
  }

  std::string Finish() const {
    GgufBytes head;
    head.bytes_ = "GGUF";
    head.Number(uint32_t{3});
    head.Number(uint64_t{0});
    head.Number(num_keys_);
    return head.bytes_ + bytes_;
  }

 private:
  std::string bytes_;
  uint64_t num_keys_ = 0;
};

}  // namespace

Result<Vocabulary> ReadVocabulary(const GgufFile& file) {
  Vocabulary vocabulary;
  COMET_ASSIGN_OR_RETURN(vocabulary.kind, ReadKind(file));
  COMET_ASSIGN_OR_RETURN(const std::optional<std::string> pre,
                         file.FindString("tokenizer.ggml.pre"));
  vocabulary.pre_tokenizer = pre.value_or("");
  COMET_RETURN_IF_ERROR(ReadPieces(file, vocabulary));
  COMET_RETURN_IF_ERROR(ReadTypes(file, vocabulary));
  COMET_RETURN_IF_ERROR(ReadScores(file, vocabulary));
  COMET_RETURN_IF_ERROR(ReadFlags(file, vocabulary));
  COMET_RETURN_IF_ERROR(ReadAddedTokenRules(file, vocabulary));

  const bool has_defaults = vocabulary.kind == TokenizerKind::kSentencePiece;
  const size_t size = vocabulary.pieces.size();
  COMET_ASSIGN_OR_RETURN(vocabulary.bos_id, ReadTokenId(file, "tokenizer.ggml.bos_token_id",
                                                        has_defaults ? 1 : -1, size));
  COMET_ASSIGN_OR_RETURN(vocabulary.eos_id, ReadTokenId(file, "tokenizer.ggml.eos_token_id",
                                                        has_defaults ? 2 : -1, size));
  COMET_ASSIGN_OR_RETURN(vocabulary.unknown_id, ReadTokenId(file, "tokenizer.ggml.unknown_token_id",
                                                            has_defaults ? 0 : -1, size));
  COMET_ASSIGN_OR_RETURN(vocabulary.padding_id,
                         ReadTokenId(file, "tokenizer.ggml.padding_token_id", -1, size));
  return vocabulary;
}

Result<std::vector<int>> ReadEosIds(const GgufFile& file) {
  COMET_ASSIGN_OR_RETURN(const TokenizerKind kind, ReadKind(file));
  COMET_ASSIGN_OR_RETURN(const std::vector<std::string_view> pieces,
                         file.FindStrings("tokenizer.ggml.tokens"));
  const int default_eos = kind == TokenizerKind::kSentencePiece ? 2 : -1;
  COMET_ASSIGN_OR_RETURN(
      const int eos, ReadTokenId(file, "tokenizer.ggml.eos_token_id", default_eos, pieces.size()));
  COMET_ASSIGN_OR_RETURN(const int end_of_turn,
                         ReadTokenId(file, "tokenizer.ggml.eot_token_id", -1, pieces.size()));
  std::vector<int> ids;
  if (eos >= 0) ids.push_back(eos);
  if (end_of_turn >= 0 && end_of_turn != eos) ids.push_back(end_of_turn);
  return ids;
}

std::string VocabularyGguf(const Vocabulary& vocabulary) {
  const bool is_sentence_piece = vocabulary.kind == TokenizerKind::kSentencePiece;
  GgufBytes bytes;
  bytes.Key("tokenizer.ggml.model", GgufValueType::kString);
  bytes.Text(is_sentence_piece ? "llama" : "gpt2");
  bytes.Key("tokenizer.ggml.pre", GgufValueType::kString);
  bytes.Text(vocabulary.pre_tokenizer);
  bytes.Texts("tokenizer.ggml.tokens", vocabulary.pieces);
  bytes.ArrayKey("tokenizer.ggml.token_type", GgufValueType::kI32, vocabulary.types.size());
  for (const TokenType type : vocabulary.types) bytes.Number(static_cast<int32_t>(type));
  if (is_sentence_piece && vocabulary.merges.empty()) {
    bytes.ArrayKey("tokenizer.ggml.scores", GgufValueType::kF32, vocabulary.scores.size());
    for (const float score : vocabulary.scores) bytes.Number(score);
  } else {
    bytes.Texts("tokenizer.ggml.merges", vocabulary.merges);
  }
  bytes.TokenId("tokenizer.ggml.bos_token_id", vocabulary.bos_id);
  bytes.TokenId("tokenizer.ggml.eos_token_id", vocabulary.eos_id);
  bytes.TokenId("tokenizer.ggml.unknown_token_id", vocabulary.unknown_id);
  bytes.TokenId("tokenizer.ggml.padding_token_id", vocabulary.padding_id);
  bytes.Flag("tokenizer.ggml.add_bos_token", vocabulary.add_bos);
  bytes.Flag("tokenizer.ggml.add_eos_token", vocabulary.add_eos);
  bytes.Flag("tokenizer.ggml.add_space_prefix", vocabulary.add_space_prefix);
  bytes.Flag(kJoinsByRankKey, is_sentence_piece && !vocabulary.merges.empty());
  bytes.Flag(kIgnoresMergesKey, vocabulary.ignores_merges);
  bytes.Flag(kNormalizesNfcKey, vocabulary.normalizes_nfc);
  bytes.Key(kSpacePrefixKey, GgufValueType::kU32);
  bytes.Number(static_cast<uint32_t>(vocabulary.space_prefix));
  if (!vocabulary.added_token_rules.empty()) {
    const std::vector<AddedTokenRule>& rules = vocabulary.added_token_rules;
    bytes.ArrayKey(kRuleTokensKey, GgufValueType::kI32, rules.size());
    for (const AddedTokenRule& rule : rules) bytes.Number(static_cast<int32_t>(rule.token_id));
    bytes.ArrayKey(kRuleFlagsKey, GgufValueType::kI32, rules.size());
    for (const AddedTokenRule& rule : rules) bytes.Number(static_cast<int32_t>(FlagsOf(rule)));
  }
  return bytes.Finish();
}

}  // namespace comet
