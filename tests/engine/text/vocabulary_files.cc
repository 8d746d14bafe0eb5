#include "tests/engine/text/vocabulary_files.h"

#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <unordered_map>

#include "engine/tokenizer/byte_symbols.h"
#include "kernels/base/check.h"
#include "tests/engine/text/test_data.h"

namespace comet {
namespace {

using nlohmann::json;

// Reads the wire format of Protocol Buffers, as far as SentencePiece's model needs it.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : bytes_(bytes) {}

  // Moves to the next field; false at the end. Afterwards one of the values below is set.
  bool Next() {
    if (bytes_.empty()) return false;
    const uint64_t tag = Varint();
    field_ = static_cast<int>(tag >> 3);
    switch (tag & 7) {
      case 0: varint_ = Varint(); break;
      case 1: bytes_value_ = Take(8); break;
      case 2: bytes_value_ = Take(Varint()); break;
      case 5: bytes_value_ = Take(4); break;
      default: COMET_CHECK_MSG(false, "unknown wire type");
    }
    return true;
  }

  int field() const { return field_; }
  uint64_t varint() const { return varint_; }
  std::string_view bytes() const { return bytes_value_; }

 private:
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(Take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
  }

  std::string_view Take(size_t num_bytes) {
    COMET_CHECK(num_bytes <= bytes_.size());
    const std::string_view taken = bytes_.substr(0, num_bytes);
    bytes_.remove_prefix(num_bytes);
    return taken;
  }

  std::string_view bytes_;
  int field_ = 0;
  uint64_t varint_ = 0;
  std::string_view bytes_value_;
};

void AddPiece(std::string_view message, Vocabulary& vocabulary) {
  std::string piece;
  float score = 0;
  int type = 1;
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.field() == 1) piece = reader.bytes();
    if (reader.field() == 2) std::memcpy(&score, reader.bytes().data(), sizeof(score));
    if (reader.field() == 3) type = static_cast<int>(reader.varint());
  }
  vocabulary.pieces.push_back(piece);
  vocabulary.scores.push_back(score);
  vocabulary.types.push_back(static_cast<TokenType>(type));
}

std::string DecodeBase64(std::string_view text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int num_bits = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(kDigits.find(c));
    num_bits += 6;
    if (num_bits >= 8) {
      num_bits -= 8;
      bytes.push_back(static_cast<char>(bits >> num_bits & 0xFF));
    }
  }
  return bytes;
}

std::string Symbols(std::string_view bytes) {
  std::string symbols;
  for (const char c : bytes) symbols += ByteSymbol(static_cast<uint8_t>(c));
  return symbols;
}

// The two parts that a token of this rank is joined from: what the tokens of lower rank leave of
// it.
std::vector<std::string> PartsOf(const std::string& token, int rank,
                                 const std::unordered_map<std::string, int>& ranks) {
  std::vector<std::string> parts;
  for (const char c : token) parts.emplace_back(1, c);
  while (true) {
    int best_rank = rank;
    size_t best = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto it = ranks.find(parts[i] + parts[i + 1]);
      if (it != ranks.end() && it->second < best_rank) {
        best_rank = it->second;
        best = i;
      }
    }
    if (best_rank == rank) return parts;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

}  // namespace

Vocabulary ReadTokenizerJson(const std::string& path, const std::string& pre_tokenizer) {
  const json file = json::parse(ReadTestFile(path));
  const json& model = file["model"];
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::kByteLevelBpe;
  vocabulary.pre_tokenizer = pre_tokenizer;
  vocabulary.pieces.resize(model["vocab"].size());
  vocabulary.types.assign(model["vocab"].size(), TokenType::kNormal);
  for (const auto& [piece, id] : model["vocab"].items()) vocabulary.pieces[id] = piece;
  for (const json& token : file["added_tokens"]) {
    vocabulary.types[token["id"]] =
        token["special"] ? TokenType::kControl : TokenType::kUserDefined;
  }
  for (const json& merge : model["merges"]) {
    vocabulary.merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  return vocabulary;
}

Vocabulary ReadSentencePieceModel(const std::string& path) {
  const std::string bytes = ReadTestFile(path);
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::kSentencePiece;
  vocabulary.add_space_prefix = true;
  vocabulary.add_bos = true;
  vocabulary.unknown_id = 0;
  vocabulary.bos_id = 1;
  vocabulary.eos_id = 2;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.field() == 1) AddPiece(reader.bytes(), vocabulary);
  }
  return vocabulary;
}

Vocabulary ReadTiktoken(const std::string& path, const std::string& pre_tokenizer) {
  std::istringstream lines(ReadTestFile(path));
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::kByteLevelBpe;
  vocabulary.pre_tokenizer = pre_tokenizer;
  std::unordered_map<std::string, int> ranks;
  std::vector<std::string> tokens;
  std::string base64;
  int rank = 0;
  while (lines >> base64 >> rank) {
    tokens.push_back(DecodeBase64(base64));
    COMET_CHECK(rank + 1 == static_cast<int>(tokens.size()));
    ranks[tokens.back()] = rank;
    vocabulary.pieces.push_back(Symbols(tokens.back()));
  }
  vocabulary.types.assign(tokens.size(), TokenType::kNormal);
  for (rank = 0; rank < static_cast<int>(tokens.size()); ++rank) {
    const std::vector<std::string> parts = PartsOf(tokens[rank], rank, ranks);
    if (parts.size() == 2) {
      vocabulary.merges.push_back(Symbols(parts[0]) + " " + Symbols(parts[1]));
    }
  }
  return vocabulary;
}

}  // namespace comet
