#include "server/grpc/generate_call.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "kernels/base/str_cat.h"
#include "server/api/finish_reason.h"
#include "server/api/status_table.h"
#include "server/grpc/grpc_request.h"

namespace comet {
namespace {

constexpr const char* kEndpoint = "comet.v1.Comet/Generate";

v1::FinishReason ToProto(FinishReason reason) {
  return reason == FinishReason::kLength ? v1::FINISH_REASON_LENGTH : v1::FINISH_REASON_STOP;
}

// Milliseconds the caller still waits; 0: without end.
Result<int> RemainingMs(std::chrono::system_clock::time_point deadline) {
  if (deadline == std::chrono::system_clock::time_point::max()) return 0;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::system_clock::now());
  if (left.count() <= 0) return DeadlineExceeded("request: its time ran out before it began");
  constexpr int64_t kLongest = 1 << 30;  // Twelve days: gRPC's "never" is not always max().
  return static_cast<int>(std::min<int64_t>(left.count(), kLongest));
}

void FillLogprobs(const OutputDelta& delta, const Tokenizer& tokenizer,
                  v1::GenerateResponse& response) {
  for (const TokenLogprob& entry : delta.logprobs) {
    v1::TokenLogprob& logprob = *response.add_logprobs();
    logprob.set_token_id(entry.token_id);
    logprob.set_logprob(entry.logprob);
    logprob.set_token_bytes(tokenizer.TokenBytes(entry.token_id, /*with_special=*/true));
    for (const auto& [token_id, value] : entry.top) {
      v1::TopLogprob& top = *logprob.add_top();
      top.set_token_id(token_id);
      top.set_logprob(value);
      top.set_token_bytes(tokenizer.TokenBytes(token_id, /*with_special=*/true));
    }
  }
}

}  // namespace

grpc::Status ToGrpc(const Status& status) {
  return {static_cast<grpc::StatusCode>(MappingOf(status.code()).grpc_code), status.message()};
}

GenerateCall::GenerateCall(const GrpcContext& context, WorkerPool& writers, std::string request_id,
                           grpc::CallbackServerContext& call, const v1::GenerateRequest& message)
    : context_(context),
      writers_(writers),
      request_id_(std::move(request_id)),
      call_(call),
      message_(message),
      log_(request_id_, kEndpoint) {
  call_.AddInitialMetadata("x-request-id", request_id_);
}

void GenerateCall::Start(const Status& verdict) {
  self_ = shared_from_this();
  if (!verdict.ok()) return Refuse(verdict);
  Result<AdmissionTicket> ticket = context_.admission.Admit();
  if (!ticket.ok()) return Refuse(ticket.status());
  ticket_ = std::move(ticket).value();
  const Status posted = context_.workers.TryPost([self = self_] { self->Begin(); });
  if (posted.ok()) return;
  context_.admission.CountRefusal(Rejection::kWorkersBusy, posted);
  Refuse(posted);
}

void GenerateCall::Refuse(const Status& status) {
  const std::lock_guard lock(mutex_);
  log_.Refuse(status, MappingOf(status.code()).grpc_code);
  FinishLocked(status);
}

void GenerateCall::Begin() {
  Result<Request> request = MakeRequest();
  if (!request.ok()) return Refuse(request.status());
  Result<std::unique_ptr<TokenStream>> stream = context_.engine.Submit(std::move(request).value());
  if (!stream.ok()) {
    context_.admission.CountRefusal(Rejection::kQueueFull, stream.status());
    return Refuse(stream.status());
  }
  {
    const std::lock_guard lock(mutex_);
    stream_ = std::move(stream).value();
  }
  PostPump();
}

Result<Request> GenerateCall::MakeRequest() {
  if (!message_.model().empty() && message_.model() != context_.model_name) {
    return NotFound(StrCat("model: \"", message_.model(), "\" is not served here, expected \"",
                           context_.model_name, "\""));
  }
  COMET_ASSIGN_OR_RETURN(Request request, ReadGenerateRequest(message_, context_.prompts));
  COMET_ASSIGN_OR_RETURN(const int remaining_ms, RemainingMs(call_.deadline()));
  if (remaining_ms > 0) {
    request.deadline_ms =
        request.deadline_ms > 0 ? std::min(request.deadline_ms, remaining_ms) : remaining_ms;
  }
  request.request_id = request_id_;
  return request;
}

void GenerateCall::PostPump() {
  writers_.Post([self = shared_from_this()] { self->Pump(); });
}

void GenerateCall::Pump() {
  const std::lock_guard lock(mutex_);
  if (is_finished_ || is_writing_ || stream_ == nullptr) return;
  if (is_cancelled_ && failure_.ok()) failure_ = Cancelled("request: the client cancelled it");
  if (!failure_.ok()) return FinishLocked(failure_);
  if (const std::optional<OutputDelta> delta = stream_->TryNext()) {
    WriteDelta(*delta);
  } else if (stream_->is_finished()) {
    FinishLocked(Status::Ok());
  } else {
    stream_->OnReady([self = shared_from_this()] { self->PostPump(); });
  }
}

void GenerateCall::WriteDelta(const OutputDelta& delta) {
  log_.NoteDelta(delta);
  failure_ = FailureOf(delta);
  if (!failure_.ok()) return FinishLocked(failure_);
  response_.Clear();
  response_.set_choice_idx(delta.choice_idx);
  response_.set_text(delta.text);
  response_.mutable_token_ids()->Add(delta.token_ids.begin(), delta.token_ids.end());
  FillLogprobs(delta, context_.engine.tokenizer(), response_);
  if (delta.finish_reason) response_.set_finish_reason(ToProto(*delta.finish_reason));
  if (stream_->is_finished()) {
    const Usage usage = stream_->usage();
    response_.mutable_usage()->set_prompt_tokens(usage.prompt_tokens);
    response_.mutable_usage()->set_completion_tokens(usage.completion_tokens);
  }
  is_writing_ = true;
  write_start_ = std::chrono::steady_clock::now();
  if (write_timer_ == nullptr) WatchWrite(write_start_);
  StartWrite(&response_);
}

void GenerateCall::WatchWrite(std::chrono::steady_clock::time_point start) {
  const auto left =
      start + std::chrono::milliseconds(context_.write_ms_max) - std::chrono::steady_clock::now();
  write_timer_ = std::make_unique<grpc::Alarm>();
  write_timer_->Set(std::chrono::system_clock::now() +
                        std::chrono::duration_cast<std::chrono::system_clock::duration>(left),
                    [self = shared_from_this()](bool /*has_passed*/) { self->OnWriteTimer(); });
}

// A timer outlasts the write it was set for, so it may find a later one, which has time left. The
// request is dropped at once: the end of the stalled write may take its time.
void GenerateCall::OnWriteTimer() {
  const std::lock_guard lock(mutex_);
  write_timer_.reset();
  if (!is_writing_ || is_cancelled_ || is_finished_) return;
  const auto age = std::chrono::steady_clock::now() - write_start_;
  if (age < std::chrono::milliseconds(context_.write_ms_max)) return WatchWrite(write_start_);
  failure_ = DeadlineExceeded(
      StrCat("request: the client took nothing for ", context_.write_ms_max, " ms"));
  is_cancelled_ = true;
  if (stream_ != nullptr) stream_->Cancel();
  call_.TryCancel();
}

void GenerateCall::OnWriteDone(bool ok) {
  {
    const std::lock_guard lock(mutex_);
    is_writing_ = false;
    if (!ok) is_cancelled_ = true;
  }
  PostPump();
}

// The stream is dropped here, not at the end of a write that a slow client holds up.
void GenerateCall::OnCancel() {
  {
    const std::lock_guard lock(mutex_);
    is_cancelled_ = true;
    if (stream_ != nullptr) stream_->Cancel();
  }
  PostPump();
}

void GenerateCall::FinishLocked(const Status& status) {
  if (is_finished_) return;
  is_finished_ = true;
  if (stream_ != nullptr) log_.Finish(context_.model_name, stream_->usage(), status);
  stream_.reset();
  const bool may_retry =
      status.code() == StatusCode::kResourceExhausted || status.code() == StatusCode::kUnavailable;
  if (may_retry) {
    call_.AddTrailingMetadata("retry-after", std::to_string(context_.retry_after_seconds));
  }
  Finish(ToGrpc(status));
}

void GenerateCall::OnDone() {
  {
    const std::lock_guard lock(mutex_);
    if (write_timer_ != nullptr) write_timer_->Cancel();
  }
  ticket_.reset();
  // May be the last reference: nothing follows.
  self_.reset();
}

}  // namespace comet
