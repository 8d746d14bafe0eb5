#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "engine/engine.h"
#include "kernels/base/status.h"
#include "server/admission/admission.h"
#include "server/http/request_ids.h"
#include "server/http/worker_pool.h"
#include "server/prompt/prompt_builder.h"

namespace comet {

struct GrpcConfig {
  std::string host = "127.0.0.1";
  int port = 50051;                 // 0: any free one; -1: no gRPC.
  int message_bytes_max = 4 << 20;  // Of one request.
  int streams_max = 256;            // Calls at once on one connection; later ones wait.
  int write_ms_max = 30000;         // For one write: a client that reads slower is cut off.
  int num_threads = 1;              // Detokenize and write.

  Status Validate() const;
};

// What calls use; everything outlives the server.
struct GrpcContext {
  Engine& engine;
  const PromptBuilder& prompts;
  WorkerPool& workers;
  Admission& admission;
  std::string model_name;
  int retry_after_seconds = 1;
  int write_ms_max = 30000;  // GrpcConfig's.
};

// comet.v1.Comet, grpc.health.v1 and reflection. Thread-safe.
class GrpcServer {
 public:
  // Errors: kFailedPrecondition (port in use).
  static Result<std::unique_ptr<GrpcServer>> Start(const GrpcConfig& config,
                                                   const GrpcContext& context);
  // Cancels what still runs and waits for its end.
  virtual ~GrpcServer() = default;

  virtual int port() const = 0;
  // What grpc.health.v1 answers, for the whole server ("") and for comet.v1.Comet.
  virtual void SetServing(bool is_serving) = 0;
  // Accepts no call from here on, waits for those that run, and cancels the rest at `timeout`.
  virtual void Shutdown(std::chrono::milliseconds timeout) = 0;
};

}  // namespace comet
