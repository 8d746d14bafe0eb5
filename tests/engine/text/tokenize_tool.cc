// Drives the tokenizer for tests and timings in Python.
//   tokenize_tool FILE encode   a line of hexadecimal UTF-8 in, a line of ids and one of what they
//                               decode to, in hexadecimal, out
//   tokenize_tool FILE time TEXT_FILE SECONDS   encodes the text again and again; prints the best
//                               MB a second of this process's time, and the number of tokens
// FILE is a tokenizer.json, a tokenizer.model, tiktoken's text or a GGUF file.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "engine/loader/gguf_file.h"
#include "engine/loader/gguf_vocabulary.h"
#include "engine/loader/sentencepiece_model.h"
#include "engine/loader/tiktoken_file.h"
#include "engine/loader/tokenizer_json.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/status.h"

namespace comet {
namespace {

using Clock = std::chrono::steady_clock;

// Time this process had a core: what others do on the machine does not count.
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Result<Vocabulary> ReadAnyVocabulary(const std::string& path) {
  const std::string bytes = ReadFile(path);
  if (bytes.starts_with("GGUF")) {
    COMET_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Open(path));
    return ReadVocabulary(file);
  }
  if (bytes.starts_with("{")) return ParseTokenizerJson(path, bytes);
  if (LooksLikeTiktoken(bytes)) return ParseTiktoken(path, bytes);
  return ParseSentencePieceModel(path, bytes);
}

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

std::string ToHex(const std::string& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    hex += kDigits[static_cast<uint8_t>(c) >> 4];
    hex += kDigits[static_cast<uint8_t>(c) & 15];
  }
  return hex;
}

Status EncodeLines(const Tokenizer& tokenizer) {
  std::string line;
  while (std::getline(std::cin, line)) {
    COMET_ASSIGN_OR_RETURN(
        const std::vector<int> ids,
        tokenizer.Encode(FromHex(line), {.add_special = false, .parse_special = true}));
    for (size_t i = 0; i < ids.size(); ++i) std::cout << (i == 0 ? "" : " ") << ids[i];
    std::cout << '\n' << ToHex(tokenizer.Decode(ids, /*with_special=*/true)) << '\n';
  }
  return Status::Ok();
}

Status TimeText(const Tokenizer& tokenizer, const std::string& path, double seconds) {
  const std::string text = ReadFile(path);
  double best = 0;
  size_t num_tokens = 0;
  const Clock::time_point end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                   std::chrono::duration<double>(seconds));
  while (Clock::now() < end) {
    const double start = CpuSeconds();
    COMET_ASSIGN_OR_RETURN(const std::vector<int> ids, tokenizer.Encode(text, {}));
    best = std::max(best, static_cast<double>(text.size()) / 1e6 / (CpuSeconds() - start));
    num_tokens = ids.size();
  }
  std::printf("%.2f %zu\n", best, num_tokens);
  return Status::Ok();
}

Status Run(const std::vector<std::string>& args) {
  COMET_ASSIGN_OR_RETURN(Vocabulary vocabulary, ReadAnyVocabulary(args[0]));
  COMET_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Create(std::move(vocabulary)));
  if (args[1] == "encode") return EncodeLines(*tokenizer);
  if (args[1] == "time" && args.size() == 4) {
    return TimeText(*tokenizer, args[2], std::stod(args[3]));
  }
  return InvalidArgument("expected encode, or time TEXT_FILE SECONDS");
}

}  // namespace
}  // namespace comet

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: tokenize_tool FILE encode | FILE time TEXT_FILE SECONDS\n";
    return 2;
  }
  const comet::Status status = comet::Run({argv + 1, argv + argc});
  if (!status.ok()) std::cerr << status << '\n';
  return status.ok() ? 0 : 1;
}
