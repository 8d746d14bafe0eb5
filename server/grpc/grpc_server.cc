#include "server/grpc/grpc_server.h"

#include <atomic>
#include <utility>

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include "comet/v1/comet.grpc.pb.h"
#include "engine/config/config_check.h"
#include "kernels/base/str_cat.h"
#include "server/api/endpoint.h"
#include "server/api/version.h"
#include "server/grpc/generate_call.h"
#include "server/grpc/tokenize_call.h"
#include "server/http/http_message.h"

namespace comet {
namespace {

constexpr const char* kServiceName = "comet.v1.Comet";
constexpr int kMetadataBytesMax = 16 << 10;
constexpr int kKeepaliveMs = 30000;         // Between pings of a connection.
constexpr int kKeepaliveTimeoutMs = 10000;  // For their answer.

// Thread-safe: calls share only the context.
class CometService final : public v1::Comet::CallbackService {
 public:
  CometService(const GrpcContext& context, int num_threads)
      : context_(context), writers_({.num_threads = num_threads, .waiting_max = 0}) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* call, const v1::GenerateRequest* message) override {
    Status verdict;
    std::string request_id = RequestIdOf(*call, verdict);
    const auto reactor =
        std::make_shared<GenerateCall>(context_, writers_, std::move(request_id), *call, *message);
    reactor->Start(verdict);
    return reactor.get();
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* call,
                                     const v1::TokenizeRequest* message,
                                     v1::TokenizeResponse* response) override {
    Status verdict;
    const std::string request_id = RequestIdOf(*call, verdict);
    return StartTokenize(context_, request_id, verdict, *call, *message, *response);
  }

  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* call,
                                       const v1::DetokenizeRequest* message,
                                       v1::DetokenizeResponse* response) override {
    Status verdict;
    const std::string request_id = RequestIdOf(*call, verdict);
    return StartDetokenize(context_, request_id, verdict, *call, *message, *response);
  }

  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* call,
                                         const v1::GetModelInfoRequest*,
                                         v1::GetModelInfoResponse* response) override {
    const Tokenizer& tokenizer = context_.engine.tokenizer();
    response->set_name(context_.model_name);
    response->set_context_length_max(context_.prompts.context_length_max());
    response->set_vocab_size(tokenizer.vocab_size());
    response->set_has_chat_template(context_.prompts.has_chat_template());
    for (const int id : tokenizer.end_of_generation_ids()) response->add_end_of_generation_ids(id);
    if (tokenizer.vocabulary().bos_id >= 0) response->set_bos_id(tokenizer.vocabulary().bos_id);
    response->set_choices_max(context_.engine.config().scheduler.choices_max);
    response->set_server_version(std::string(Version()));
    grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  // The client's, or one of ours; `verdict` says what is wrong with the client's.
  std::string RequestIdOf(const grpc::CallbackServerContext& call, Status& verdict) {
    const auto sent = call.client_metadata().find("x-request-id");
    if (sent == call.client_metadata().end()) return request_ids_.Next();
    std::string id(sent->second.data(), sent->second.size());
    if (IsRequestId(id)) return id;
    verdict = InvalidArgument("x-request-id: expected 1 to 128 of A-Z a-z 0-9 . _ : -");
    return request_ids_.Next();
  }

  const GrpcContext context_;
  WorkerPool writers_;
  RequestIds request_ids_;
};

class CallbackGrpcServer final : public GrpcServer {
 public:
  CallbackGrpcServer(const GrpcConfig& config, const GrpcContext& context)
      : config_(config), service_(context, config.num_threads) {}
  ~CallbackGrpcServer() override { Shutdown(std::chrono::milliseconds(0)); }

  Status Open();
  int port() const override { return port_; }
  void SetServing(bool is_serving) override;
  void Shutdown(std::chrono::milliseconds timeout) override;

 private:
  const GrpcConfig config_;
  CometService service_;
  std::unique_ptr<grpc::Server> server_;  // Destroyed first: its calls use the service.
  int port_ = 0;
  std::atomic<bool> is_serving_ = false;
};

Status CallbackGrpcServer::Open() {
  grpc::ServerBuilder builder;
  const std::string address = FormatEndpoint(config_.host, config_.port);
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port_);
  // Otherwise a second daemon would share the port and take half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, config_.streams_max);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytesMax);
  // A client that vanished without closing is found by pings, and its call cancelled.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.SetMaxReceiveMessageSize(config_.message_bytes_max);
  builder.RegisterService(&service_);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port_ == 0) {
    return FailedPrecondition(
        StrCat("grpc: cannot listen on ", address, ": the port is in use or not allowed"));
  }
  SetServing(true);
  return Status::Ok();
}

void CallbackGrpcServer::SetServing(bool is_serving) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  // The library tells every watcher of each call, changed or not.
  if (health == nullptr || is_serving_.exchange(is_serving) == is_serving) return;
  health->SetServingStatus("", is_serving);
  health->SetServingStatus(kServiceName, is_serving);
}

void CallbackGrpcServer::Shutdown(std::chrono::milliseconds timeout) {
  if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now() + timeout);
}

}  // namespace

Result<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcConfig& config,
                                                      const GrpcContext& context) {
  // Both are switches of the library, read when a server is built.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  auto server = std::make_unique<CallbackGrpcServer>(config, context);
  COMET_RETURN_IF_ERROR(server->Open());
  return std::unique_ptr<GrpcServer>(std::move(server));
}

Status GrpcConfig::Validate() const {
  ConfigCheck check("grpc");
  check.InRange("port", port, -1, 65535);
  check.InRange("message_bytes_max", message_bytes_max, 1024, 1 << 30);
  check.AtLeast("streams_max", streams_max, 1);
  check.AtLeast("write_ms_max", write_ms_max, 1);
  check.InRange("num_threads", num_threads, 1, 64);
  return check.status();
}

}  // namespace comet
