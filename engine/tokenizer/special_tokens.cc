#include "engine/tokenizer/special_tokens.h"

#include <algorithm>

#include "engine/tokenizer/character_classes.h"
#include "engine/tokenizer/utf8.h"

namespace comet {
namespace {

// The last character; U+FFFD, one byte long, where it isn't one.
Utf8Char LastCharacter(std::string_view text) {
  constexpr size_t kCharacterBytesMax = 4;
  for (size_t n = 1; n <= std::min(text.size(), kCharacterBytesMax); ++n) {
    const Utf8Char last = ReadUtf8Char(text.substr(text.size() - n));
    if (last.state == Utf8State::kValid && last.num_bytes == static_cast<int>(n)) return last;
  }
  return {0xFFFD, 1, Utf8State::kInvalid};
}

bool IsInsideWord(std::string_view before, std::string_view after) {
  return (!before.empty() && IsWordCharacter(LastCharacter(before).code_point)) ||
         (!after.empty() && IsWordCharacter(ReadUtf8Char(after).code_point));
}

size_t NumSpaceBytesAtEnd(std::string_view text) {
  size_t num_bytes = 0;
  while (num_bytes < text.size()) {
    const Utf8Char last = LastCharacter(text.substr(0, text.size() - num_bytes));
    if (!IsWhiteSpace(last.code_point)) break;
    num_bytes += last.num_bytes;
  }
  return num_bytes;
}

size_t NumSpaceBytesAtStart(std::string_view text) {
  size_t num_bytes = 0;
  while (num_bytes < text.size()) {
    const Utf8Char next = ReadUtf8Char(text.substr(num_bytes));
    if (!IsWhiteSpace(next.code_point)) break;
    num_bytes += next.num_bytes;
  }
  return num_bytes;
}

}  // namespace

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary, Stage stage, const Spelling& spelling) {
  for (const AddedTokenRule& rule : vocabulary.added_token_rules)
    rules_.emplace(rule.token_id, rule);
  for (size_t idx = 0; idx < vocabulary.pieces.size(); ++idx) {
    const int id = static_cast<int>(idx);
    const TokenType type = vocabulary.types[idx];
    const AddedTokenRule* rule = FindRule(id);
    const bool is_late = rule != nullptr && rule->is_normalized;
    const bool is_user_defined = type == TokenType::kUserDefined && stage != Stage::kControl &&
                                 is_late == (stage == Stage::kNormalized);
    const bool is_control =
        (type == TokenType::kControl || type == TokenType::kUnknown) && stage != Stage::kNormalized;
    if (!is_user_defined && !is_control) continue;
    const std::string spelled = spelling(vocabulary.pieces[idx]);
    if (is_user_defined) always_.Add(spelled, id);
    when_parsed_.Add(spelled, id);
  }
}

const AddedTokenRule* SpecialTokens::FindRule(int token_id) const {
  const auto it = rules_.find(token_id);
  return it == rules_.end() ? nullptr : &it->second;
}

Status SpecialTokens::Split(std::string_view text, bool parse_special, const OnText& on_text,
                            const OnToken& on_token) const {
  const PieceTrie& trie = parse_special ? when_parsed_ : always_;
  size_t begin = 0;
  size_t pos = trie.empty() ? text.size() : 0;
  while (pos < text.size()) {
    const PieceTrie::Match match = trie.Longest(text.substr(pos));
    if (match.token_id < 0) {
      ++pos;
      continue;
    }
    size_t match_begin = pos;
    pos += match.num_bytes;
    if (const AddedTokenRule* rule = FindRule(match.token_id)) {
      if (rule->is_whole_word && IsInsideWord(text.substr(0, match_begin), text.substr(pos))) {
        continue;
      }
      if (rule->strips_left) {
        match_begin -= NumSpaceBytesAtEnd(text.substr(begin, match_begin - begin));
      }
      if (rule->strips_right) pos += NumSpaceBytesAtStart(text.substr(pos));
    }
    if (match_begin > begin) {
      COMET_RETURN_IF_ERROR(on_text(text.substr(begin, match_begin - begin)));
    }
    on_token(match.token_id);
    begin = pos;
  }
  return begin < text.size() ? on_text(text.substr(begin)) : Status::Ok();
}

}  // namespace comet
