#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "engine/engine.h"
#include "server/http/http_exchange.h"
#include "server/logging/request_log.h"
#include "server/openai/answer_format.h"
#include "server/openai/generate_fields.h"
#include "server/openai/openai_api.h"

namespace comet {

// The engine's side of one HTTP request: a token stream for each prompt, read as one. Choices are
// numbered prompt by prompt. Its end, however it comes, cancels what still runs. Confined to the
// request's I/O thread.
class Generation {
 public:
  explicit Generation(HttpExchange& exchange) : exchange_(exchange) {}

  // All or none. Errors: as of Engine::Submit().
  Status Submit(Engine& engine, std::vector<Request> requests);

  // Waits for output and returns all there is; empty when every choice has ended. Errors:
  // kCancelled (the client went away), kDeadlineExceeded, kUnavailable (the server stopped it), or
  // why the engine failed a choice, which ends the others too.
  Task<Result<std::vector<OutputDelta>>> Next();

  // Next() has given every choice's end.
  bool is_finished() const;
  Usage usage() const;

 private:
  struct Source {
    std::unique_ptr<TokenStream> stream;
    int first_choice_idx = 0;
  };

  void Collect(Source& source, std::vector<OutputDelta>& deltas);

  HttpExchange& exchange_;
  std::vector<Source> sources_;
  Status failure_;
};

// Submits what a body asked for, one request a prompt, and writes the answer, streamed or whole.
// `fields.request` is what the requests have in common.
Task<ApiStatus> AnswerRequest(const OpenAiContext& context, HttpExchange& exchange,
                              const GenerateFields& fields, std::vector<std::vector<int>> prompts,
                              AnswerFormat& format, RequestLog& log);

// The head of the request's answer.
AnswerHead MakeAnswerHead(const OpenAiContext& context, const HttpExchange& exchange,
                          const GenerateFields& fields, int num_prompts);

}  // namespace comet
