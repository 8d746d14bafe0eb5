#include "engine/tokenizer/special_tokens.h"

namespace comet {

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary, bool with_user_defined) {
  for (size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const TokenType type = vocabulary.types[id];
    const bool is_always = with_user_defined && type == TokenType::kUserDefined;
    const bool is_control = type == TokenType::kControl || type == TokenType::kUnknown;
    if (is_always) always_.Add(vocabulary.pieces[id], static_cast<int>(id));
    if (is_always || is_control) when_parsed_.Add(vocabulary.pieces[id], static_cast<int>(id));
  }
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
    if (pos > begin) COMET_RETURN_IF_ERROR(on_text(text.substr(begin, pos - begin)));
    on_token(match.token_id);
    pos += match.num_bytes;
    begin = pos;
  }
  return begin < text.size() ? on_text(text.substr(begin)) : Status::Ok();
}

}  // namespace comet
