#include "engine/loader/vocabulary_padding.h"

#include "kernels/base/str_cat.h"

namespace comet {

void NameUnusedPieces(Vocabulary& vocabulary) {
  for (size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    std::string& piece = vocabulary.pieces[id];
    if (piece.empty() && vocabulary.types[id] == TokenType::kUnused)
      piece = StrCat("[UNUSED_", id, "]");
  }
}

Status FitVocabulary(std::string_view where, int num_rows, Vocabulary& vocabulary) {
  const int64_t size = static_cast<int64_t>(vocabulary.pieces.size());
  const int64_t num_missing = num_rows - size;
  if (num_missing < 0 || num_missing > kUnusedRowsMax) {
    return DataLoss(StrCat(where, ": vocabulary has ", size,
                           " tokens, expected one for each of the embedding's ", num_rows,
                           " rows, or at most ", kUnusedRowsMax, " fewer"));
  }
  const size_t num_pieces = static_cast<size_t>(num_rows);
  vocabulary.pieces.resize(num_pieces);
  vocabulary.types.resize(num_pieces, TokenType::kUnused);
  if (!vocabulary.scores.empty()) vocabulary.scores.resize(num_pieces, 0.0f);
  NameUnusedPieces(vocabulary);
  return Status::Ok();
}

}  // namespace comet
