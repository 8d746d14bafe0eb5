#pragma once

#include <string>

#include <grpcpp/grpcpp.h>

#include "comet/v1/comet.pb.h"
#include "kernels/base/status.h"
#include "server/grpc/grpc_server.h"

namespace comet {

// The unary calls that tokenize on a worker. `verdict`, if not ok, is what they answer. The call
// and its messages live until the reactor is finished, as gRPC has it.
grpc::ServerUnaryReactor* StartTokenize(const GrpcContext& context, const std::string& request_id,
                                        const Status& verdict, grpc::CallbackServerContext& call,
                                        const v1::TokenizeRequest& message,
                                        v1::TokenizeResponse& response);
grpc::ServerUnaryReactor* StartDetokenize(const GrpcContext& context, const std::string& request_id,
                                          const Status& verdict, grpc::CallbackServerContext& call,
                                          const v1::DetokenizeRequest& message,
                                          v1::DetokenizeResponse& response);

}  // namespace comet
