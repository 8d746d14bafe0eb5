#include "server/commands/generate.h"

#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/runtime/load_parts.h"
#include "engine/runtime/start_engine.h"
#include "server/prompt/prompt_builder.h"

namespace comet {
namespace {

// What one prompt gave, and how fast.
struct Generation {
  std::string text;
  std::vector<int> token_ids;
  FinishReason reason = FinishReason::kStop;
  double first_token_seconds = 0.0;
  double total_seconds = 0.0;
  Usage usage;
};

Result<std::vector<int>> EncodePrompt(const GenerateOptions& options, const Engine& engine) {
  const PromptBuilder prompts(engine);
  if (!options.chat) return prompts.FromText(options.prompt);
  return prompts.FromMessages({ChatMessage{.role = "user", .content = options.prompt}});
}

// Reads the stream to its end, printing text as it comes when `is_printed`.
Result<Generation> Collect(TokenStream& stream, bool is_printed) {
  const auto started = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  };
  Generation generation;
  while (!stream.is_finished()) {
    const std::optional<OutputDelta> delta = stream.WaitNext(std::chrono::milliseconds(1000));
    if (!delta) continue;
    if (generation.token_ids.empty()) generation.first_token_seconds = elapsed();
    generation.text += delta->text;
    generation.token_ids.insert(generation.token_ids.end(), delta->token_ids.begin(),
                                delta->token_ids.end());
    if (is_printed) {
      std::fwrite(delta->text.data(), 1, delta->text.size(), stdout);
      std::fflush(stdout);
    }
    if (delta->finish_reason == FinishReason::kError) return delta->status;
    if (delta->finish_reason) generation.reason = *delta->finish_reason;
  }
  generation.total_seconds = elapsed();
  generation.usage = stream.usage();
  return generation;
}

double DecodeRate(const Generation& generation) {
  const double seconds = generation.total_seconds - generation.first_token_seconds;
  const int num_tokens = generation.usage.completion_tokens - 1;
  return num_tokens > 0 && seconds > 0.0 ? num_tokens / seconds : 0.0;
}

void PrintJson(const Generation& generation) {
  const nlohmann::ordered_json json = {
      {"text", generation.text},
      {"token_ids", generation.token_ids},
      {"prompt_tokens", generation.usage.prompt_tokens},
      {"completion_tokens", generation.usage.completion_tokens},
      {"finish_reason", generation.reason == FinishReason::kLength ? "length" : "stop"},
      {"first_token_seconds", generation.first_token_seconds},
      {"decode_tokens_per_second", DecodeRate(generation)}};
  std::printf("%s\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

}  // namespace

Status RunGenerate(const GenerateOptions& options) {
  LoadOptions load{.model = options.model,
                   .activation_bits = options.activation_bits,
                   .kv_bits = options.kv_bits,
                   .backend = options.backend};
  load.engine.scheduler.running_sequences_max = 1;
  load.engine.context_length_max = options.context_length_max;
  COMET_ASSIGN_OR_RETURN(LoadedParts loaded, LoadParts(load));
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                         StartEngine(std::move(loaded.parts), loaded.limits, loaded.config,
                                     /*observer=*/nullptr));

  Request request{.request_id = "generate", .sampling = options.sampling};
  COMET_ASSIGN_OR_RETURN(request.prompt_ids, EncodePrompt(options, *engine));
  request.output_tokens_max = options.output_tokens_max;
  request.continues_prompt = !options.chat;
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<TokenStream> stream,
                         engine->Submit(std::move(request)));
  if (!options.json && !options.chat) std::printf("%s", options.prompt.c_str());
  COMET_ASSIGN_OR_RETURN(const Generation generation, Collect(*stream, !options.json));

  if (options.json) {
    PrintJson(generation);
    return Status::Ok();
  }
  std::printf("\n");
  std::fprintf(stderr, "%d prompt tokens, first token after %.2f s; %d tokens at %.1f a second\n",
               generation.usage.prompt_tokens, generation.first_token_seconds,
               generation.usage.completion_tokens, DecodeRate(generation));
  return Status::Ok();
}

}  // namespace comet
