#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "server/openai/completion_request.h"
#include "server/openai/generation.h"
#include "server/openai/openai_api.h"

namespace comet {
namespace {

struct CompletionWork {
  CompletionRequest completion;
  std::vector<std::vector<int>> prompts;
};

// Runs on a worker.
ApiStatus ReadCompletion(const OpenAiContext& context, const std::string& body,
                         CompletionWork& work) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(body, context.json_limits));
  ApiStatus outcome = ParseCompletionRequest(json, context.limits, work.completion);
  if (!outcome.ok()) return outcome;
  outcome = CheckModel(context, work.completion.model);
  if (!outcome.ok()) return outcome;
  int64_t num_tokens = 0;
  for (auto& prompt : work.completion.prompts) {
    std::vector<int> ids;
    if (const std::string* text = std::get_if<std::string>(&prompt)) {
      COMET_ASSIGN_OR_RETURN(ids, context.prompts.FromText(*text));
    } else {
      ids = std::move(std::get<std::vector<int>>(prompt));
    }
    outcome = CheckPromptFits(context, ids, work.completion, "prompt");
    if (!outcome.ok()) return outcome;
    num_tokens += static_cast<int64_t>(ids.size());
    work.prompts.push_back(std::move(ids));
  }
  return CheckFitsQueue(context, static_cast<int>(work.prompts.size()), num_tokens,
                        work.completion);
}

}  // namespace

Task<ApiStatus> HandleCompletions(const OpenAiContext& context, HttpExchange& exchange) {
  RequestLog log(exchange.request().request_id, "/v1/completions");
  CompletionWork work;
  const Result<AdmissionTicket> ticket = context.admission.Admit();
  ApiStatus outcome = ticket.status();
  if (outcome.ok()) {
    std::function<ApiStatus()> read = [&] {
      return ReadCompletion(context, exchange.request().body, work);
    };
    outcome = co_await ReadOnPool(context, exchange, std::move(read));
  }
  if (!outcome.ok()) {
    log.Refuse(outcome.status, HttpStatusOf(outcome));
    co_return outcome;
  }
  const int num_prompts = static_cast<int>(work.prompts.size());
  const std::unique_ptr<AnswerFormat> format = MakeCompletionFormat(
      MakeAnswerHead(context, exchange, work.completion, num_prompts), context.engine.tokenizer());
  co_return co_await AnswerRequest(context, exchange, work.completion, std::move(work.prompts),
                                   *format, log);
}

}  // namespace comet
