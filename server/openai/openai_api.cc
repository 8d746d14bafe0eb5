#include "server/openai/openai_api.h"

#include <nlohmann/json.hpp>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr std::string_view kModelsPath = "/v1/models/";

nlohmann::ordered_json ModelObject(const OpenAiContext& context) {
  return {{"id", context.model_name},
          {"object", "model"},
          {"created", context.created},
          {"owned_by", "comet"},
          {"max_model_len", context.prompts.context_length_max()}};
}

// Names come from the command line and from requests, so they may be invalid UTF-8.
std::string Dump(const nlohmann::ordered_json& body) {
  return body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

void AddOpenAiRoutes(const OpenAiContext& context, Router& router) {
  const auto add = [&](const char* method, const char* path, auto handle) {
    router.Add(method, path,
               [&context, handle](HttpExchange& exchange) { return handle(context, exchange); });
  };
  add("POST", "/v1/chat/completions", HandleChatCompletions);
  add("POST", "/v1/completions", HandleCompletions);
  add("POST", "/tokenize", HandleTokenize);
  add("POST", "/detokenize", HandleDetokenize);
  add("GET", "/v1/models", HandleListModels);
  add("GET", "/v1/models/*", HandleGetModel);
}

Task<ApiStatus> ReadOnPool(const OpenAiContext& context, HttpExchange& exchange,
                           std::function<ApiStatus()> read) {
  ApiStatus outcome;
  std::function<void()> job = [&] { outcome = read(); };
  const Status ran = co_await RunOnPool(exchange, context.workers, std::move(job));
  if (ran.ok()) co_return outcome;
  context.admission.CountRefusal(Rejection::kWorkersBusy, ran);
  co_return ran;
}

ApiStatus CheckPromptFits(const OpenAiContext& context, const std::vector<int>& prompt_ids,
                          const GenerateFields& fields, const std::string& param) {
  const int num_tokens = static_cast<int>(prompt_ids.size());
  const int context_max = context.prompts.context_length_max();
  if (num_tokens == 0) return FieldFault(param, "length is 0 tokens, expected at least 1");
  ApiStatus outcome;
  if (num_tokens >= context_max) {
    outcome = FieldFault(param, StrCat("length is ", num_tokens,
                                       " tokens, expected less than the context of ", context_max));
  } else if (!fields.output_tokens_param.empty() &&
             fields.request.output_tokens_max > context_max - num_tokens) {
    outcome =
        FieldFault(fields.output_tokens_param,
                   StrCat("value is ", fields.request.output_tokens_max, ", expected at most ",
                          context_max - num_tokens, ": the context is ", context_max,
                          ", the prompt ", num_tokens, " tokens"));
  }
  if (!outcome.ok()) outcome.code = "context_length_exceeded";
  return outcome;
}

ApiStatus CheckFitsQueue(const OpenAiContext& context, int num_prompts, int64_t num_prompt_tokens,
                         const GenerateFields& fields) {
  const int num_choices = fields.request.num_choices;
  ApiStatus outcome = context.engine.config().scheduler.CheckFitsQueue(
      num_prompts * num_choices, num_prompt_tokens * num_choices);
  if (!outcome.ok()) outcome.param = num_choices > 1 ? "n" : "prompt";
  return outcome;
}

ApiStatus CheckModel(const OpenAiContext& context, const std::string& name) {
  if (name.empty() || name == context.model_name) return {};
  ApiStatus outcome(NotFound(
      StrCat("model: \"", name, "\" is not served here, expected \"", context.model_name, "\"")));
  outcome.param = "model";
  outcome.code = "model_not_found";
  return outcome;
}

Task<ApiStatus> HandleListModels(const OpenAiContext& context, HttpExchange& exchange) {
  const nlohmann::ordered_json body = {
      {"object", "list"}, {"data", nlohmann::ordered_json::array({ModelObject(context)})}};
  co_return co_await exchange.Write(JsonResponse(Dump(body)));
}

Task<ApiStatus> HandleGetModel(const OpenAiContext& context, HttpExchange& exchange) {
  const std::string name = exchange.request().path.substr(kModelsPath.size());
  if (ApiStatus outcome = CheckModel(context, name); !outcome.ok()) co_return outcome;
  co_return co_await exchange.Write(JsonResponse(Dump(ModelObject(context))));
}

}  // namespace comet
