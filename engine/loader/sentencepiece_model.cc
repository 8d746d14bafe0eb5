#include "engine/loader/sentencepiece_model.h"

#include <cmath>
#include <string>

#include "kernels/base/str_cat.h"
#include "sentencepiece/sentencepiece_model.pb.h"

namespace comet {
namespace {

constexpr int kPiecesMax = 1 << 22;
constexpr int kBpe = 2;
constexpr const char* kModelTypes[] = {"?", "unigram", "BPE", "word", "char"};

Status CheckTrainer(std::string_view where, const sentencepiece::Trainer& trainer) {
  const int type = trainer.model_type();
  if (type != kBpe) {
    const bool is_known = type >= 1 && type <= 4;
    return Unimplemented(StrCat(where, ": trainer_spec.model_type: is ", type, " (",
                                kModelTypes[is_known ? type : 0], "), expected 2 (BPE)"));
  }
  if (trainer.treat_whitespace_as_suffix()) {
    return Unimplemented(
        StrCat(where, ": trainer_spec.treat_whitespace_as_suffix: is true, expected false"));
  }
  return Status::Ok();
}

Status CheckNormalizer(std::string_view where, const sentencepiece::Normalizer& normalizer) {
  if (!normalizer.precompiled_charsmap().empty()) {
    return Unimplemented(StrCat(where, ": normalizer_spec.precompiled_charsmap: has ",
                                normalizer.precompiled_charsmap().size(),
                                " bytes, expected the identity"));
  }
  if (normalizer.remove_extra_whitespaces()) {
    return Unimplemented(
        StrCat(where, ": normalizer_spec.remove_extra_whitespaces: is true, expected false"));
  }
  if (!normalizer.escape_whitespaces()) {
    return Unimplemented(
        StrCat(where, ": normalizer_spec.escape_whitespaces: is false, expected true"));
  }
  return Status::Ok();
}

Status AddPieces(std::string_view where, const sentencepiece::Model& model,
                 Vocabulary& vocabulary) {
  if (model.pieces_size() == 0 || model.pieces_size() > kPiecesMax) {
    return DataLoss(StrCat(where, ": pieces: has ", model.pieces_size(), " entries, expected 1 to ",
                           kPiecesMax));
  }
  for (int id = 0; id < model.pieces_size(); ++id) {
    const sentencepiece::Piece& piece = model.pieces(id);
    const auto fail = [&](std::string_view field, const auto& got, std::string_view expected) {
      return DataLoss(
          StrCat(where, ": pieces[", id, "].", field, ": is ", got, ", expected ", expected));
    };
    if (piece.text().empty()) return fail("piece", "empty", "text");
    if (piece.type() < 1 || piece.type() > 6) return fail("type", piece.type(), "1 to 6");
    if (!std::isfinite(piece.score())) return fail("score", piece.score(), "a finite number");
    vocabulary.pieces.push_back(piece.text());
    vocabulary.scores.push_back(piece.score());
    vocabulary.types.push_back(static_cast<TokenType>(piece.type()));
  }
  return Status::Ok();
}

// SentencePiece writes -1 for none; an id past the end is a fault of the file.
Status SetId(std::string_view where, std::string_view field, int id, const Vocabulary& vocabulary,
             int& out) {
  const int size = static_cast<int>(vocabulary.pieces.size());
  if (id >= size) {
    return DataLoss(
        StrCat(where, ": trainer_spec.", field, ": is ", id, ", expected an id below ", size));
  }
  out = id < 0 ? -1 : id;
  return Status::Ok();
}

}  // namespace

Result<Vocabulary> ParseSentencePieceModel(std::string_view where, std::string_view bytes) {
  sentencepiece::Model model;
  if (!model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return DataLoss(StrCat(where, ": is not a SentencePiece model"));
  }
  COMET_RETURN_IF_ERROR(CheckTrainer(where, model.trainer()));
  COMET_RETURN_IF_ERROR(CheckNormalizer(where, model.normalizer()));
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::kSentencePiece;
  vocabulary.add_space_prefix = model.normalizer().add_dummy_prefix();
  COMET_RETURN_IF_ERROR(AddPieces(where, model, vocabulary));
  const sentencepiece::Trainer& trainer = model.trainer();
  COMET_RETURN_IF_ERROR(
      SetId(where, "unk_id", trainer.unk_id(), vocabulary, vocabulary.unknown_id));
  COMET_RETURN_IF_ERROR(SetId(where, "bos_id", trainer.bos_id(), vocabulary, vocabulary.bos_id));
  COMET_RETURN_IF_ERROR(SetId(where, "eos_id", trainer.eos_id(), vocabulary, vocabulary.eos_id));
  COMET_RETURN_IF_ERROR(
      SetId(where, "pad_id", trainer.pad_id(), vocabulary, vocabulary.padding_id));
  vocabulary.add_bos = vocabulary.bos_id >= 0;
  return vocabulary;
}

}  // namespace comet
