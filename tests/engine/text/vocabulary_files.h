#pragma once

#include <string>

#include "engine/tokenizer/vocabulary.h"

namespace comet {

// The published vocabularies of the test data, each from each of its files. They abort on an error.
// Files that were damaged on their way into the test data are repaired; see the .cc.
Vocabulary LoadSmolLm2();
Vocabulary LoadLlama2Json();
Vocabulary LoadLlama2Model();
Vocabulary LoadLlama3Tiktoken();
Vocabulary LoadMistralV1();
Vocabulary LoadMistralV3();

inline constexpr char kSmolLm2File[] = "tokenizers/smollm2/tokenizer.json";
inline constexpr char kLlama2JsonFile[] = "tokenizers/llama2/tokenizer.json";
inline constexpr char kLlama2ModelFile[] = "tokenizers/llama2/tokenizer.model";
inline constexpr char kLlama3File[] = "tokenizers/llama3/tokenizer.model";

}  // namespace comet
