#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include "comet/v1/comet.pb.h"
#include "engine/engine.h"
#include "kernels/base/thread_annotations.h"
#include "server/admission/admission.h"
#include "server/grpc/grpc_server.h"
#include "server/http/worker_pool.h"
#include "server/logging/request_log.h"

namespace comet {

// The wire form of a Status.
grpc::Status ToGrpc(const Status& status);

// One Generate call. gRPC's threads, a worker and the writers meet here, so everything that changes
// is guarded; nobody waits inside. The call keeps itself alive until gRPC says OnDone().
class GenerateCall final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                           public std::enable_shared_from_this<GenerateCall> {
 public:
  // `message` lives as long as the call. `writers` outlives it.
  GenerateCall(const GrpcContext& context, WorkerPool& writers, std::string request_id,
               grpc::CallbackServerContext& call, const v1::GenerateRequest& message);

  // Admits the call and hands it to a worker, or ends it with what is already wrong with it.
  void Start(const Status& verdict);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // On a worker: reads the message and submits it.
  void Begin();
  void Refuse(const Status& status);
  Result<Request> MakeRequest();
  // On a writer: sends what there is, or asks to be called when there is more.
  void Pump();
  // Both with mutex_ held.
  void WriteDelta(const OutputDelta& delta);
  void FinishLocked(const Status& status);
  void PostPump();
  // With mutex_ held: looks at the write under way when it may have taken too long.
  void WatchWrite(std::chrono::steady_clock::time_point start);
  // On gRPC's timer thread.
  void OnWriteTimer();

  const GrpcContext& context_;
  WorkerPool& writers_;
  const std::string request_id_;
  grpc::CallbackServerContext& call_;
  const v1::GenerateRequest& message_;
  std::shared_ptr<GenerateCall> self_;  // Its lifetime is gRPC's: released in OnDone().
  std::optional<AdmissionTicket> ticket_;

  std::mutex mutex_;
  RequestLog log_ COMET_GUARDED_BY(mutex_);
  std::unique_ptr<TokenStream> stream_ COMET_GUARDED_BY(mutex_);
  v1::GenerateResponse response_ COMET_GUARDED_BY(mutex_);  // Being written.
  Status failure_ COMET_GUARDED_BY(mutex_);
  bool is_writing_ COMET_GUARDED_BY(mutex_) = false;
  std::chrono::steady_clock::time_point write_start_ COMET_GUARDED_BY(mutex_);
  // Set while a timer runs: one at a time, whatever the number of writes.
  std::unique_ptr<grpc::Alarm> write_timer_ COMET_GUARDED_BY(mutex_);
  bool is_cancelled_ COMET_GUARDED_BY(mutex_) = false;
  bool is_finished_ COMET_GUARDED_BY(mutex_) = false;
};

}  // namespace comet
