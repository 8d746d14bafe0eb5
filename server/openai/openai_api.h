#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "server/admission/admission.h"
#include "server/http/router.h"
#include "server/http/worker_pool.h"
#include "server/json/parse_json.h"
#include "server/openai/generate_fields.h"
#include "server/prompt/prompt_builder.h"

namespace comet {

// What the endpoints share; everything outlives them.
struct OpenAiContext {
  Engine& engine;
  const PromptBuilder& prompts;
  WorkerPool& workers;
  Admission& admission;
  ApiLimits limits;
  JsonLimits json_limits;
  std::string model_name;
  int64_t created = 0;  // When the model was loaded, in Unix seconds.
};

// Adds /v1/chat/completions, /v1/completions, /v1/models, /v1/models/{id}, and vLLM's /tokenize and
// /detokenize. `context` outlives the router.
void AddOpenAiRoutes(const OpenAiContext& context, Router& router);

// Endpoints. Coroutines of the connection's I/O thread; bodies, templates and tokenizing go to the
// workers.
Task<ApiStatus> HandleChatCompletions(const OpenAiContext& context, HttpExchange& exchange);
Task<ApiStatus> HandleCompletions(const OpenAiContext& context, HttpExchange& exchange);
Task<ApiStatus> HandleTokenize(const OpenAiContext& context, HttpExchange& exchange);
Task<ApiStatus> HandleDetokenize(const OpenAiContext& context, HttpExchange& exchange);
Task<ApiStatus> HandleListModels(const OpenAiContext& context, HttpExchange& exchange);
Task<ApiStatus> HandleGetModel(const OpenAiContext& context, HttpExchange& exchange);

// Runs `read`, which reads a body into the caller's locals, on a worker. Errors: its own, or
// kResourceExhausted when the workers' queue is full.
Task<ApiStatus> ReadOnPool(const OpenAiContext& context, HttpExchange& exchange,
                           std::function<ApiStatus()> read);

// Whether prompt and asked output fit the context; `param` names the field the prompt came from.
ApiStatus CheckPromptFits(const OpenAiContext& context, const std::vector<int>& prompt_ids,
                          const GenerateFields& fields, const std::string& param);

// Whether the engine's queue could ever take all choices of all prompts.
ApiStatus CheckFitsQueue(const OpenAiContext& context, int num_prompts, int64_t num_prompt_tokens,
                         const GenerateFields& fields);

// Whether `name` is served; an empty one is, whatever it may be. kNotFound with OpenAI's code
// otherwise.
ApiStatus CheckModel(const OpenAiContext& context, const std::string& name);

}  // namespace comet
