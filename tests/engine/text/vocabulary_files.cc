#include "tests/engine/text/vocabulary_files.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "engine/loader/sentencepiece_model.h"
#include "engine/loader/tiktoken_file.h"
#include "engine/loader/tokenizer_json.h"
#include "kernels/base/check.h"
#include "tests/engine/text/test_data.h"

namespace comet {
namespace {

using nlohmann::json;

Vocabulary ValueOf(Result<Vocabulary> vocabulary) {
  COMET_CHECK_MSG(vocabulary.ok(), vocabulary.status().message());
  return std::move(vocabulary).value();
}

Vocabulary LoadSentencePiece(const std::string& file) {
  return ValueOf(ParseSentencePieceModel(file, ReadTestFile(TestDataPath(file))));
}

void ReplaceAll(const std::string& from, const std::string& to, std::string& text) {
  for (size_t pos = text.find(from); pos != std::string::npos; pos = text.find(from, pos)) {
    text.replace(pos, from.size(), to);
    pos += to.size();
  }
}

}  // namespace

// The file was saved again and lost a step: digits are cut out before ByteLevel.
Vocabulary LoadSmolLm2() {
  json file = json::parse(ReadTestFile(TestDataPath(kSmolLm2File)));
  const json digits = {{"type", "Digits"}, {"individual_digits", true}};
  file["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers", {digits, file["pre_tokenizer"]}}};
  return ValueOf(ParseTokenizerJson(kSmolLm2File, file.dump()));
}

// The file's no-break spaces became plain ones, which its own format cannot read.
Vocabulary LoadLlama2Json() {
  const std::string text = ReadTestFile(TestDataPath(kLlama2JsonFile));
  json file = json::parse(text);
  json vocab;
  for (const auto& [piece, id] : file["model"]["vocab"].items()) {
    std::string repaired = piece;
    ReplaceAll(" ", "\u00A0", repaired);
    vocab[repaired] = id;
  }
  file["model"]["vocab"] = std::move(vocab);
  for (json& merge : file["model"]["merges"]) {
    std::string repaired = merge;
    // Two sides and the space between them: of "   " and longer runs the middle one.
    const size_t middle = repaired == "\u2581  " ? 3 : repaired.size() / 2;
    if (repaired.find(' ') == repaired.rfind(' ')) continue;
    std::string left = repaired.substr(0, middle);
    std::string right = repaired.substr(middle + 1);
    ReplaceAll(" ", "\u00A0", left);
    ReplaceAll(" ", "\u00A0", right);
    merge = left + " " + right;
  }
  return ValueOf(ParseTokenizerJson(kLlama2JsonFile, file.dump()));
}

Vocabulary LoadLlama2Model() { return LoadSentencePiece(kLlama2ModelFile); }

Vocabulary LoadLlama3Tiktoken() {
  return ValueOf(ParseTiktoken(kLlama3File, ReadTestFile(TestDataPath(kLlama3File))));
}

Vocabulary LoadMistralV1() { return LoadSentencePiece("tokenizers/mistral/tokenizer.model.v1"); }

Vocabulary LoadMistralV3() {
  return LoadSentencePiece("tokenizers/mistral/mistral_instruct_tokenizer_240323.model.v3");
}

}  // namespace comet
