#pragma once

#include <string>
#include <vector>

#include "engine/chat_template/named_templates.h"
#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"

namespace comet {

// What a model's folder or file says about text.
struct TextFiles {
  Vocabulary vocabulary;
  std::vector<NamedTemplate> chat_templates;  // Empty: none. "default" first, if there is one.
  std::vector<int> eos_ids;                   // What ends a generation, without repeats.
};

// A Hugging Face folder's text side, for a model whose embedding has `num_rows` rows:
//   vocabulary       tokenizer.json, or else tokenizer.model (SentencePiece or LLaMA-3's tiktoken),
//                    with added_tokens.json; and the added_tokens_decoder of tokenizer_config.json
//   BOS, EOS, pad    tokenizer_config.json, or else special_tokens_map.json, or else the above;
//                    add_bos_token and add_eos_token override the post-processor
//   chat templates   see chat_template_files.h
//   end of text      eos_token_id of generation_config.json, or else EOS
// Errors: kNotFound without a vocabulary; kDataLoss with file, field, got and expected, also when
// the vocabulary does not match the embedding; kUnimplemented for what a file asks and we lack.
Result<TextFiles> ReadTextFiles(const std::string& folder, int num_rows);

}  // namespace comet
