#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/targets.h"

namespace comet {
namespace {

struct Target {
  const char* name;  // Of its folder in tests/fuzz/corpus.
  void (*run)(std::string_view bytes);
};

// Replays the committed corpus: seeds, and whatever once was a finding.
class FuzzCorpus : public testing::TestWithParam<Target> {};

std::vector<std::string> ReadCorpus(const std::string& name) {
  const std::filesystem::path folder =
      std::string(std::getenv("COMET_SOURCE_DIR")) + "/tests/fuzz/corpus/" + name;
  std::vector<std::string> inputs;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

TEST_P(FuzzCorpus, IsReadWithoutACrash) {
  const std::vector<std::string> inputs = ReadCorpus(GetParam().name);

  for (const std::string& input : inputs) GetParam().run(input);

  EXPECT_FALSE(inputs.empty());
}

// Where there is no libFuzzer: cut short, and with some bytes changed.
TEST_P(FuzzCorpus, IsReadWithoutACrashWhenDamaged) {
  constexpr int kVariants = 100;
  std::mt19937 random(23);
  for (const std::string& input : ReadCorpus(GetParam().name)) {
    for (int i = 0; i < kVariants && !input.empty(); ++i) {
      std::string damaged = input.substr(0, i % 4 == 0 ? random() % input.size() : input.size());
      for (int n = static_cast<int>(random() % 4); n > 0 && !damaged.empty(); --n) {
        damaged[random() % damaged.size()] = static_cast<char>(random());
      }
      GetParam().run(damaged);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, FuzzCorpus,
    testing::Values(Target{"tokenizer_json", FuzzTokenizerJson},
                    Target{"sentencepiece_model", FuzzSentencePieceModel},
                    Target{"tiktoken", FuzzTiktoken}, Target{"template_source", FuzzTemplateSource},
                    Target{"template_values", FuzzTemplateValues}, Target{"gguf", FuzzGguf},
                    Target{"safetensors", FuzzSafetensors}, Target{"config_json", FuzzConfigJson},
                    Target{"folder", FuzzFolder}),
    [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace comet
