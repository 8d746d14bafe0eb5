#include "server/grpc/tokenize_call.h"

#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/tokenizer/streaming_detokenizer.h"
#include "kernels/base/str_cat.h"
#include "server/api/status_table.h"
#include "server/grpc/generate_call.h"
#include "server/grpc/grpc_request.h"
#include "server/logging/request_log.h"

namespace comet {
namespace {

Status CheckModel(const GrpcContext& context, const std::string& model) {
  if (model.empty() || model == context.model_name) return Status::Ok();
  return NotFound(
      StrCat("model: \"", model, "\" is not served here, expected \"", context.model_name, "\""));
}

Status Tokenize(const GrpcContext& context, const v1::TokenizeRequest& message,
                v1::TokenizeResponse& response, Usage& usage) {
  COMET_RETURN_IF_ERROR(CheckNoUnknownFields(message));
  COMET_RETURN_IF_ERROR(CheckModel(context, message.model()));
  std::vector<int> ids;
  switch (message.prompt_case()) {
    case v1::TokenizeRequest::kText: {
      const bool add_special = !message.has_add_special_tokens() || message.add_special_tokens();
      COMET_ASSIGN_OR_RETURN(ids, context.prompts.FromText(message.text(), add_special));
      break;
    }
    case v1::TokenizeRequest::kChat: {
      PromptOptions options;
      options.add_special = message.add_special_tokens();
      options.add_generation_prompt =
          !message.has_add_generation_prompt() || message.add_generation_prompt();
      COMET_ASSIGN_OR_RETURN(ids, ReadConversation(message.chat(), context.prompts, options));
      break;
    }
    case v1::TokenizeRequest::PROMPT_NOT_SET:
      return InvalidArgument("prompt: missing, expected one of text and chat");
  }
  response.mutable_token_ids()->Add(ids.begin(), ids.end());
  response.set_context_length_max(context.prompts.context_length_max());
  usage.prompt_tokens = static_cast<int>(ids.size());
  return Status::Ok();
}

Status Detokenize(const GrpcContext& context, const v1::DetokenizeRequest& message,
                  v1::DetokenizeResponse& response, Usage& usage) {
  COMET_RETURN_IF_ERROR(CheckNoUnknownFields(message));
  COMET_RETURN_IF_ERROR(CheckModel(context, message.model()));
  const Tokenizer& tokenizer = context.engine.tokenizer();
  // A string of the wire is UTF-8, which the streaming detokenizer always gives.
  StreamingDetokenizer detokenizer(tokenizer, /*with_special=*/true);
  std::string text;
  for (int i = 0; i < message.token_ids_size(); ++i) {
    const int id = message.token_ids(i);
    if (id < 0 || id >= tokenizer.vocab_size()) {
      return InvalidArgument(StrCat("token_ids[", i, "]: value is ", id, ", expected 0 to ",
                                    tokenizer.vocab_size() - 1));
    }
    text += detokenizer.Push(id);
  }
  text += detokenizer.Finish();
  response.set_text(std::move(text));
  usage.prompt_tokens = message.token_ids_size();
  return Status::Ok();
}

// One call: admitted, run on a worker, logged.
grpc::ServerUnaryReactor* Start(const GrpcContext& context, const std::string& request_id,
                                std::string_view endpoint, const Status& verdict,
                                grpc::CallbackServerContext& call,
                                std::function<Status(Usage&)> work) {
  call.AddInitialMetadata("x-request-id", request_id);
  grpc::ServerUnaryReactor* reactor = call.DefaultReactor();
  const RequestLog log(request_id, endpoint);
  const auto refuse = [&call, reactor, &context](const RequestLog& line, const Status& status) {
    line.Refuse(status, MappingOf(status.code()).grpc_code);
    const bool may_retry = status.code() == StatusCode::kResourceExhausted ||
                           status.code() == StatusCode::kUnavailable;
    if (may_retry) {
      call.AddTrailingMetadata("retry-after", std::to_string(context.retry_after_seconds));
    }
    reactor->Finish(ToGrpc(status));
  };
  if (!verdict.ok()) {
    refuse(log, verdict);
    return reactor;
  }
  Result<AdmissionTicket> admitted = context.admission.Admit();
  if (!admitted.ok()) {
    refuse(log, admitted.status());
    return reactor;
  }
  // Shared because a job is copyable, and a ticket is not.
  auto ticket = std::make_shared<AdmissionTicket>(std::move(admitted).value());
  const Status posted =
      context.workers.TryPost([&context, reactor, refuse, line = log, held = std::move(ticket),
                               work = std::move(work)]() mutable {
        Usage usage;
        const Status status = work(usage);
        held.reset();
        if (!status.ok()) return refuse(line, status);
        OutputDelta end;
        end.finish_reason = FinishReason::kStop;
        line.NoteDelta(end);
        line.Finish(context.model_name, usage, status);
        reactor->Finish(grpc::Status::OK);
      });
  if (!posted.ok()) {
    context.admission.CountRefusal(Rejection::kWorkersBusy, posted);
    refuse(log, posted);
  }
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* StartTokenize(const GrpcContext& context, const std::string& request_id,
                                        const Status& verdict, grpc::CallbackServerContext& call,
                                        const v1::TokenizeRequest& message,
                                        v1::TokenizeResponse& response) {
  return Start(context, request_id, "comet.v1.Comet/Tokenize", verdict, call,
               [&](Usage& usage) { return Tokenize(context, message, response, usage); });
}

grpc::ServerUnaryReactor* StartDetokenize(const GrpcContext& context, const std::string& request_id,
                                          const Status& verdict, grpc::CallbackServerContext& call,
                                          const v1::DetokenizeRequest& message,
                                          v1::DetokenizeResponse& response) {
  return Start(context, request_id, "comet.v1.Comet/Detokenize", verdict, call,
               [&](Usage& usage) { return Detokenize(context, message, response, usage); });
}

}  // namespace comet
