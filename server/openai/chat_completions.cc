#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "server/openai/chat_request.h"
#include "server/openai/generation.h"
#include "server/openai/openai_api.h"

namespace comet {
namespace {

struct ChatWork {
  ChatRequest chat;
  std::vector<int> prompt_ids;
};

// Runs on a worker.
ApiStatus ReadChat(const OpenAiContext& context, const std::string& body, ChatWork& work) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(body, context.json_limits));
  ApiStatus outcome = ParseChatRequest(json, context.limits, work.chat);
  if (!outcome.ok()) return outcome;
  outcome = CheckModel(context, work.chat.model);
  if (!outcome.ok()) return outcome;
  COMET_ASSIGN_OR_RETURN(work.prompt_ids, context.prompts.FromMessages(work.chat.messages));
  outcome = CheckPromptFits(context, work.prompt_ids, work.chat, "messages");
  if (!outcome.ok()) return outcome;
  return CheckFitsQueue(context, /*num_prompts=*/1, static_cast<int64_t>(work.prompt_ids.size()),
                        work.chat);
}

}  // namespace

Task<ApiStatus> HandleChatCompletions(const OpenAiContext& context, HttpExchange& exchange) {
  RequestLog log(exchange.request().request_id, "/v1/chat/completions");
  ChatWork work;
  const Result<AdmissionTicket> ticket = context.admission.Admit();
  ApiStatus outcome = ticket.status();
  if (outcome.ok()) {
    std::function<ApiStatus()> read = [&] {
      return ReadChat(context, exchange.request().body, work);
    };
    outcome = co_await ReadOnPool(context, exchange, std::move(read));
  }
  if (!outcome.ok()) {
    log.Refuse(outcome.status, HttpStatusOf(outcome));
    co_return outcome;
  }
  const std::unique_ptr<AnswerFormat> format = MakeChatFormat(
      MakeAnswerHead(context, exchange, work.chat, /*num_prompts=*/1), context.engine.tokenizer());
  std::vector<std::vector<int>> prompts;
  prompts.push_back(std::move(work.prompt_ids));
  co_return co_await AnswerRequest(context, exchange, work.chat, std::move(prompts), *format, log);
}

}  // namespace comet
