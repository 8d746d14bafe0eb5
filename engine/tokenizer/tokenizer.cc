#include "engine/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/tokenizer/byte_level_bpe_tokenizer.h"
#include "engine/tokenizer/sentencepiece_tokenizer.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// Tokens that published chat models end a turn or a text with, whatever their file calls EOS.
constexpr std::array<std::string_view, 13> kEndOfGenerationPieces = {
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|return|>",
    "<end_of_turn>",
    "<EOT>",
    "<|eot|>",
    "<|end_of_turn|>",
    "<|endofturn|>",
    "<\xEF\xBD\x9C"
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
};

Status CheckId(std::string_view name, int id, size_t vocab_size, bool is_needed) {
  if (id >= (is_needed ? 0 : -1) && id < static_cast<int>(vocab_size)) return Status::Ok();
  return InvalidArgument(StrCat("tokenizer: ", name, " is ", id, ", expected ",
                                is_needed ? "" : "-1 or ", "an id below ", vocab_size));
}

Status CheckVocabulary(const Vocabulary& vocabulary) {
  const size_t vocab_size = vocabulary.pieces.size();
  if (vocab_size == 0) return InvalidArgument("tokenizer: the vocabulary is empty");
  if (vocabulary.types.size() != vocab_size) {
    return InvalidArgument(StrCat("tokenizer: the number of types is ", vocabulary.types.size(),
                                  ", expected ", vocab_size, ", one a piece"));
  }
  for (size_t id = 0; id < vocab_size; ++id) {
    const int type = static_cast<int>(vocabulary.types[id]);
    if (type < 1 || type > 6) {
      return InvalidArgument(StrCat("tokenizer: types[", id, "] is ", type, ", expected 1 to 6"));
    }
  }
  for (const AddedTokenRule& rule : vocabulary.added_token_rules) {
    COMET_RETURN_IF_ERROR(CheckId("added_token_rules.token_id", rule.token_id, vocab_size, true));
  }
  COMET_RETURN_IF_ERROR(CheckId("bos_id", vocabulary.bos_id, vocab_size, vocabulary.add_bos));
  COMET_RETURN_IF_ERROR(CheckId("eos_id", vocabulary.eos_id, vocab_size, vocabulary.add_eos));
  COMET_RETURN_IF_ERROR(CheckId("unknown_id", vocabulary.unknown_id, vocab_size, false));
  return CheckId("padding_id", vocabulary.padding_id, vocab_size, false);
}

}  // namespace

Tokenizer::Tokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {
  ids_.reserve(vocabulary_.pieces.size());
  for (int id = 0; id < vocab_size(); ++id) ids_.try_emplace(vocabulary_.pieces[id], id);

  if (vocabulary_.eos_id >= 0) end_of_generation_ids_.push_back(vocabulary_.eos_id);
  for (const std::string_view piece : kEndOfGenerationPieces) {
    const int id = FindToken(piece);
    // A model that never learnt the token may still spell out its name in ordinary text.
    const bool is_text = id < 0 || vocabulary_.types[id] == TokenType::kNormal;
    if (!is_text && !IsEndOfGeneration(id)) end_of_generation_ids_.push_back(id);
  }
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::Create(Vocabulary vocabulary) {
  COMET_RETURN_IF_ERROR(CheckVocabulary(vocabulary));
  switch (vocabulary.kind) {
    case TokenizerKind::kByteLevelBpe: return ByteLevelBpeTokenizer::Create(std::move(vocabulary));
    case TokenizerKind::kSentencePiece:
      return SentencePieceTokenizer::Create(std::move(vocabulary));
  }
  return InvalidArgument("tokenizer: kind is unknown");
}

std::string Tokenizer::Decode(const std::vector<int>& token_ids, bool with_special) const {
  std::string text;
  for (const int id : token_ids) text += TokenBytes(id, with_special);
  if (has_space_prefix() && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

int Tokenizer::FindToken(std::string_view piece) const {
  const auto it = ids_.find(piece);
  return it == ids_.end() ? -1 : it->second;
}

bool Tokenizer::IsEndOfGeneration(int token_id) const {
  return std::find(end_of_generation_ids_.begin(), end_of_generation_ids_.end(), token_id) !=
         end_of_generation_ids_.end();
}

}  // namespace comet
