#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/base/str_cat.h"
#include "server/logging/request_log.h"
#include "server/openai/answer_json.h"
#include "server/openai/openai_api.h"
#include "server/openai/tokenize_request.h"

namespace comet {
namespace {

// A string costs some 50 bytes beside its token's 7, and each answer is held whole.
constexpr size_t kTokenStringsMax = 1 << 16;

// Runs on a worker. Answers hold nothing of the prompt but its tokens.
ApiStatus Tokenize(const OpenAiContext& context, const std::string& body, std::string& answer,
                   Usage& usage) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(body, context.json_limits));
  TokenizeRequest request;
  ApiStatus outcome = ParseTokenizeRequest(json, context.limits, request);
  if (!outcome.ok()) return outcome;
  outcome = CheckModel(context, request.model);
  if (!outcome.ok()) return outcome;

  std::vector<int> ids;
  if (request.prompt.has_value()) {
    COMET_ASSIGN_OR_RETURN(ids,
                           context.prompts.FromText(*request.prompt, request.add_special_tokens));
  } else {
    PromptOptions options;
    options.add_generation_prompt = request.add_generation_prompt;
    options.add_special = request.add_special_tokens;
    COMET_ASSIGN_OR_RETURN(ids, context.prompts.FromMessages(request.messages, options));
  }
  usage.prompt_tokens = static_cast<int>(ids.size());

  AnswerJson object = {{"count", ids.size()},
                       {"max_model_len", context.prompts.context_length_max()},
                       {"tokens", ids},
                       {"token_strs", nullptr}};
  if (request.return_token_strs) {
    if (ids.size() > kTokenStringsMax) {
      return FieldFault("return_token_strs",
                        StrCat("set for a prompt of ", ids.size(), " tokens, expected at most ",
                               kTokenStringsMax));
    }
    AnswerJson& strings = object["token_strs"] = AnswerJson::array();
    for (const int id : ids) {
      strings.push_back(context.engine.tokenizer().TokenBytes(id, /*with_special=*/true));
    }
  }
  answer = DumpAnswer(object);
  return {};
}

// Runs on a worker.
ApiStatus Detokenize(const OpenAiContext& context, const std::string& body, std::string& answer,
                     Usage& usage) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(body, context.json_limits));
  DetokenizeRequest request;
  ApiStatus outcome = ParseDetokenizeRequest(json, context.limits, request);
  if (!outcome.ok()) return outcome;
  outcome = CheckModel(context, request.model);
  if (!outcome.ok()) return outcome;
  usage.prompt_tokens = static_cast<int>(request.tokens.size());
  const AnswerJson object = {
      {"prompt", context.engine.tokenizer().Decode(request.tokens, /*with_special=*/true)}};
  answer = DumpAnswer(object);
  return {};
}

using Work = ApiStatus (*)(const OpenAiContext&, const std::string& body, std::string& answer,
                           Usage& usage);

Task<ApiStatus> Answer(const OpenAiContext& context, HttpExchange& exchange,
                       std::string_view endpoint, Work work) {
  RequestLog log(exchange.request().request_id, endpoint);
  const Result<AdmissionTicket> ticket = context.admission.Admit();
  ApiStatus outcome = ticket.status();
  std::string answer;
  Usage usage;
  if (outcome.ok()) {
    std::function<ApiStatus()> read = [&] {
      return work(context, exchange.request().body, answer, usage);
    };
    outcome = co_await ReadOnPool(context, exchange, std::move(read));
  }
  if (!outcome.ok()) {
    log.Refuse(outcome.status, HttpStatusOf(outcome));
    co_return outcome;
  }
  OutputDelta end;
  end.finish_reason = FinishReason::kStop;
  log.NoteDelta(end);
  const Status written = co_await exchange.Write(JsonResponse(std::move(answer)));
  log.Finish(context.model_name, usage, written);
  co_return written;
}

}  // namespace

Task<ApiStatus> HandleTokenize(const OpenAiContext& context, HttpExchange& exchange) {
  return Answer(context, exchange, "/tokenize", Tokenize);
}

Task<ApiStatus> HandleDetokenize(const OpenAiContext& context, HttpExchange& exchange) {
  return Answer(context, exchange, "/detokenize", Detokenize);
}

}  // namespace comet
