#include "server/openai/generation.h"

#include <algorithm>
#include <ctime>
#include <string>
#include <utility>

#include "kernels/base/str_cat.h"
#include "server/api/finish_reason.h"
#include "server/api/status_table.h"
#include "server/http/sse.h"

namespace comet {
namespace {

Task<Status> WriteEvents(HttpExchange& exchange, Generation& generation,
                         const GenerateFields& fields, AnswerFormat& format, RequestLog& log) {
  while (true) {
    COMET_CO_ASSIGN_OR_RETURN(const std::vector<OutputDelta> deltas, co_await generation.Next());
    std::string events;
    for (const OutputDelta& delta : deltas) {
      log.NoteDelta(delta);
      events += format.Events(delta);
    }
    // The head goes with the first output, so that a failure before it still has its own status.
    if (events.empty() && !generation.is_finished()) continue;
    if (!exchange.has_begun()) exchange.BeginStream(kSseContentType);
    if (generation.is_finished()) {
      if (fields.has_usage_in_stream) events += format.UsageEvent(generation.usage());
      events += kSseDone;
      co_return co_await exchange.EndStream(events);
    }
    COMET_CO_RETURN_IF_ERROR(co_await exchange.WriteStream(events));
  }
}

Task<Status> WriteWhole(HttpExchange& exchange, Generation& generation, int num_choices,
                        AnswerFormat& format, RequestLog& log) {
  std::vector<WholeChoice> choices(static_cast<size_t>(num_choices));
  while (true) {
    COMET_CO_ASSIGN_OR_RETURN(const std::vector<OutputDelta> deltas, co_await generation.Next());
    if (deltas.empty()) break;
    for (const OutputDelta& delta : deltas) {
      log.NoteDelta(delta);
      WholeChoice& choice = choices[static_cast<size_t>(delta.choice_idx)];
      choice.text += delta.text;
      choice.logprobs.insert(choice.logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
      if (delta.finish_reason) choice.finish_reason = *delta.finish_reason;
    }
  }
  co_return co_await exchange.Write(JsonResponse(format.Body(choices, generation.usage())));
}

std::vector<Request> MakeRequests(const std::string& request_id, const GenerateFields& fields,
                                  std::vector<std::vector<int>> prompts) {
  std::vector<Request> requests;
  for (std::vector<int>& prompt : prompts) {
    Request request = fields.request;
    request.request_id = request_id;
    if (prompts.size() > 1) request.request_id += StrCat(":", requests.size());
    request.prompt_ids = std::move(prompt);
    requests.push_back(std::move(request));
  }
  return requests;
}

}  // namespace

Status Generation::Submit(Engine& engine, std::vector<Request> requests) {
  int first_choice_idx = 0;
  for (Request& request : requests) {
    const int num_choices = request.num_choices;
    Result<std::unique_ptr<TokenStream>> stream = engine.Submit(std::move(request));
    if (!stream.ok()) {
      sources_.clear();
      return stream.status();
    }
    sources_.push_back({std::move(stream).value(), first_choice_idx});
    first_choice_idx += num_choices;
  }
  return Status::Ok();
}

void Generation::Collect(Source& source, std::vector<OutputDelta>& deltas) {
  while (std::optional<OutputDelta> delta = source.stream->TryNext()) {
    delta->choice_idx += source.first_choice_idx;
    failure_ = FailureOf(*delta);
    if (!failure_.ok()) return;
    deltas.push_back(std::move(*delta));
  }
}

Task<Result<std::vector<OutputDelta>>> Generation::Next() {
  std::vector<OutputDelta> deltas;
  while (true) {
    if (exchange_.is_client_gone()) co_return Cancelled("request: the client went away");
    for (Source& source : sources_) {
      if (failure_.ok()) Collect(source, deltas);
    }
    // What came before a failure is still told.
    if (!deltas.empty()) co_return deltas;
    if (!failure_.ok()) co_return failure_;
    if (is_finished()) co_return deltas;
    for (Source& source : sources_) {
      if (!source.stream->is_finished()) source.stream->OnReady(exchange_.MakeWaker());
    }
    co_await exchange_.Wait();
  }
}

bool Generation::is_finished() const {
  return failure_.ok() && std::all_of(sources_.begin(), sources_.end(), [](const Source& source) {
           return source.stream->is_finished();
         });
}

Usage Generation::usage() const {
  Usage total;
  for (const Source& source : sources_) {
    const Usage usage = source.stream->usage();
    total.prompt_tokens += usage.prompt_tokens;
    total.completion_tokens += usage.completion_tokens;
  }
  return total;
}

Task<ApiStatus> AnswerRequest(const OpenAiContext& context, HttpExchange& exchange,
                              const GenerateFields& fields, std::vector<std::vector<int>> prompts,
                              AnswerFormat& format, RequestLog& log) {
  const int num_choices = fields.request.num_choices * static_cast<int>(prompts.size());
  Generation generation(exchange);
  const Status submitted = generation.Submit(
      context.engine, MakeRequests(exchange.request().request_id, fields, std::move(prompts)));
  if (!submitted.ok()) {
    context.admission.CountRefusal(Rejection::kQueueFull, submitted);
    log.Refuse(submitted, MappingOf(submitted.code()).http_status);
    co_return submitted;
  }
  Status written;
  if (fields.is_stream) {
    written = co_await WriteEvents(exchange, generation, fields, format, log);
  } else {
    written = co_await WriteWhole(exchange, generation, num_choices, format, log);
  }
  log.Finish(context.model_name, generation.usage(), written);
  co_return written;
}

AnswerHead MakeAnswerHead(const OpenAiContext& context, const HttpExchange& exchange,
                          const GenerateFields& fields, int num_prompts) {
  return {.request_id = exchange.request().request_id,
          .model = context.model_name,
          .created = std::time(nullptr),
          .has_logprobs = fields.request.num_top_logprobs >= 0,
          .with_special_tokens = fields.request.with_special_tokens,
          .has_usage_in_stream = fields.has_usage_in_stream,
          .num_choices = fields.request.num_choices * num_prompts};
}

}  // namespace comet
