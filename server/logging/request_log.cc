#include "server/logging/request_log.h"

#include "server/api/finish_reason.h"
#include "server/logging/log.h"

namespace comet {
namespace {

double Seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

void RequestLog::NoteDelta(const OutputDelta& delta) {
  if (!first_token_ && !delta.token_ids.empty()) first_token_ = Clock::now();
  if (delta.finish_reason) reason_ = delta.finish_reason;
}

void RequestLog::Finish(std::string_view model, const Usage& usage, const Status& status) const {
  std::string_view reason = reason_ ? ToString(*reason_) : ToString(FinishReason::kError);
  if (!status.ok()) reason = ToString(status.code());
  COMET_LOG(kInfo, "request_finished", {"request_id", request_id_}, {"endpoint", endpoint_},
            {"model", model}, {"reason", reason}, {"prompt_tokens", usage.prompt_tokens},
            {"completion_tokens", usage.completion_tokens},
            {"first_token_seconds", first_token_ ? Seconds(*first_token_ - start_) : -1.0},
            {"total_seconds", Seconds(Clock::now() - start_)});
}

void RequestLog::Refuse(const Status& status, int wire_code) const {
  COMET_LOG(kInfo, "request_refused", {"request_id", request_id_}, {"endpoint", endpoint_},
            {"reason", ToString(status.code())}, {"wire_code", wire_code},
            {"total_seconds", Seconds(Clock::now() - start_)});
}

}  // namespace comet
