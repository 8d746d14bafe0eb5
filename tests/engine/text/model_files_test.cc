#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "engine/loader/sentencepiece_model.h"
#include "engine/loader/tiktoken_file.h"
#include "sentencepiece/sentencepiece_model.pb.h"

namespace comet {
namespace {

sentencepiece::Model SmallModel() {
  sentencepiece::Model model;
  const auto add = [&](const char* text, float score, int type) {
    sentencepiece::Piece& piece = *model.add_pieces();
    piece.set_text(text);
    piece.set_score(score);
    piece.set_type(type);
  };
  add("<unk>", 0, 2);
  add("<s>", 0, 3);
  add("</s>", 0, 3);
  add("a", -1, 1);
  add("[INST]", 0, 4);
  model.mutable_trainer()->set_model_type(2);
  model.mutable_normalizer()->set_remove_extra_whitespaces(false);
  return model;
}

Status RefusalOf(const sentencepiece::Model& model) {
  return ParseSentencePieceModel("f.model", model.SerializeAsString()).status();
}

void ExpectMessage(const Status& status, StatusCode code, const std::string& in_message) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_NE(status.message().find(in_message), std::string::npos) << status;
}

TEST(SentencePieceModel, ReadsPiecesAndIds) {
  sentencepiece::Model model = SmallModel();
  model.mutable_trainer()->set_pad_id(0);

  const auto vocabulary = ParseSentencePieceModel("f.model", model.SerializeAsString());

  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_EQ(vocabulary->pieces, (std::vector<std::string>{"<unk>", "<s>", "</s>", "a", "[INST]"}));
  EXPECT_EQ(vocabulary->types[4], TokenType::kUserDefined);
  EXPECT_EQ(vocabulary->scores[3], -1);
  EXPECT_EQ(vocabulary->bos_id, 1);
  EXPECT_EQ(vocabulary->eos_id, 2);
  EXPECT_EQ(vocabulary->padding_id, 0);
  EXPECT_TRUE(vocabulary->add_bos);
  EXPECT_TRUE(vocabulary->add_space_prefix);
}

TEST(SentencePieceModel, RefusesOtherModelTypesByName) {
  sentencepiece::Model model = SmallModel();
  model.mutable_trainer()->set_model_type(1);
  ExpectMessage(RefusalOf(model), StatusCode::kUnimplemented,
                "f.model: trainer_spec.model_type: is 1 (unigram), expected 2 (BPE)");
  model.mutable_trainer()->clear_model_type();
  ExpectMessage(RefusalOf(model), StatusCode::kUnimplemented, "unigram");
}

TEST(SentencePieceModel, RefusesNormalisersThatChangeText) {
  sentencepiece::Model model = SmallModel();
  model.mutable_normalizer()->set_precompiled_charsmap("abc");
  ExpectMessage(RefusalOf(model), StatusCode::kUnimplemented, "precompiled_charsmap: has 3 bytes");
  model = SmallModel();
  model.mutable_normalizer()->clear_remove_extra_whitespaces();
  ExpectMessage(RefusalOf(model), StatusCode::kUnimplemented, "remove_extra_whitespaces: is true");
  model = SmallModel();
  model.mutable_normalizer()->set_escape_whitespaces(false);
  ExpectMessage(RefusalOf(model), StatusCode::kUnimplemented, "escape_whitespaces: is false");
  model = SmallModel();
  model.mutable_trainer()->set_treat_whitespace_as_suffix(true);
  ExpectMessage(RefusalOf(model), StatusCode::kUnimplemented, "treat_whitespace_as_suffix");
}

TEST(SentencePieceModel, RefusesBrokenFiles) {
  const std::string whole = SmallModel().SerializeAsString();
  for (size_t size = 1; size < whole.size(); ++size) {
    (void)ParseSentencePieceModel("f", whole.substr(0, size));  // Refused or not: no crash.
  }
  ExpectMessage(ParseSentencePieceModel("f", "\x0A\xFF").status(), StatusCode::kDataLoss,
                "is not a SentencePiece model");
  sentencepiece::Model model = SmallModel();
  model.mutable_pieces(3)->set_type(9);
  ExpectMessage(RefusalOf(model), StatusCode::kDataLoss, "pieces[3].type: is 9, expected 1 to 6");
  model = SmallModel();
  model.mutable_pieces(3)->set_score(std::numeric_limits<float>::quiet_NaN());
  ExpectMessage(RefusalOf(model), StatusCode::kDataLoss, "pieces[3].score");
  model = SmallModel();
  model.mutable_pieces(3)->clear_text();
  ExpectMessage(RefusalOf(model), StatusCode::kDataLoss, "pieces[3].piece: is empty");
  model = SmallModel();
  model.mutable_trainer()->set_bos_id(77);
  ExpectMessage(RefusalOf(model), StatusCode::kDataLoss, "bos_id: is 77, expected an id below 5");
  model = SmallModel();
  model.clear_pieces();
  ExpectMessage(RefusalOf(model), StatusCode::kDataLoss, "pieces: has 0 entries");
}

TEST(Tiktoken, ReadsRanksAndAddsSpecialTokens) {
  const auto vocabulary = ParseTiktoken("f", "YQ== 0\nYg== 1\r\nYWI= 2\nYWJh 3\n");

  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_EQ(vocabulary->pieces.size(), 4u + 256u);
  EXPECT_EQ(vocabulary->merges, (std::vector<std::string>{"a b", "ab a"}));
  EXPECT_EQ(vocabulary->pieces[4], "<|begin_of_text|>");
  EXPECT_EQ(vocabulary->pieces[4 + 9], "<|eot_id|>");
  EXPECT_EQ(vocabulary->pieces[4 + 255], "<|reserved_special_token_247|>");
  EXPECT_EQ(vocabulary->bos_id, 4);
  EXPECT_TRUE(vocabulary->add_bos);
  EXPECT_TRUE(vocabulary->ignores_merges);
}

TEST(Tiktoken, NamesTheLineAtFault) {
  const auto refusal = [](const std::string& text) { return ParseTiktoken("f", text).status(); };

  ExpectMessage(refusal(""), StatusCode::kDataLoss, "f: has no token");
  ExpectMessage(refusal("YQ=="), StatusCode::kDataLoss, "f: line 1: expected a token in base64");
  ExpectMessage(refusal("YQ== 0\n*** 1"), StatusCode::kDataLoss, "f: line 2: expected a token of");
  ExpectMessage(refusal("YQ== 0\nYg== 2"), StatusCode::kDataLoss, "rank is \"2\", expected 1");
  ExpectMessage(refusal("YQ== -1"), StatusCode::kDataLoss, "rank is \"-1\", expected 0");
  ExpectMessage(refusal("YQ== 0\nYQ== 1"), StatusCode::kDataLoss, "rank 1 has the token of rank 0");
  ExpectMessage(refusal(std::string(400, 'Y') + " 0"), StatusCode::kDataLoss, "1 to 256 bytes");
}

TEST(Tiktoken, IsToldFromSentencePiece) {
  EXPECT_TRUE(LooksLikeTiktoken("IQ== 0\n"));
  EXPECT_FALSE(LooksLikeTiktoken(SmallModel().SerializeAsString()));
  EXPECT_FALSE(LooksLikeTiktoken(""));
}

}  // namespace
}  // namespace comet
