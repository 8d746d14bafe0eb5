#include "server/http/api_status.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/api/finish_reason.h"
#include "server/api/status_table.h"

namespace comet {
namespace {

struct StatusCase {
  StatusCode code;
  int http_status;
  grpc::StatusCode grpc_code;
};

// Written out by hand from the two protocols' definitions, not from the table.
TEST(StatusTable, MapsEveryCodeToBothProtocols) {
  const StatusCase cases[] = {
      {StatusCode::kOk, 200, grpc::StatusCode::OK},
      {StatusCode::kInvalidArgument, 400, grpc::StatusCode::INVALID_ARGUMENT},
      {StatusCode::kNotFound, 404, grpc::StatusCode::NOT_FOUND},
      {StatusCode::kFailedPrecondition, 400, grpc::StatusCode::FAILED_PRECONDITION},
      {StatusCode::kResourceExhausted, 429, grpc::StatusCode::RESOURCE_EXHAUSTED},
      {StatusCode::kUnimplemented, 501, grpc::StatusCode::UNIMPLEMENTED},
      {StatusCode::kUnavailable, 503, grpc::StatusCode::UNAVAILABLE},
      {StatusCode::kCancelled, 499, grpc::StatusCode::CANCELLED},
      {StatusCode::kDeadlineExceeded, 504, grpc::StatusCode::DEADLINE_EXCEEDED},
      {StatusCode::kDataLoss, 500, grpc::StatusCode::DATA_LOSS},
      {StatusCode::kInternal, 500, grpc::StatusCode::INTERNAL},
  };
  for (const StatusCase& test_case : cases) {
    const StatusMapping& mapping = MappingOf(test_case.code);

    EXPECT_EQ(mapping.http_status, test_case.http_status) << ToString(test_case.code);
    EXPECT_EQ(mapping.grpc_code, static_cast<int>(test_case.grpc_code)) << ToString(test_case.code);
  }
}

TEST(ApiStatus, WritesOpenAisErrorObject) {
  const ApiStatus outcome = FieldFault("max_tokens", "value is -1, expected at least 1");

  const nlohmann::json body = nlohmann::json::parse(ErrorBody(outcome));

  EXPECT_EQ(body, (nlohmann::json{{"error",
                                   {{"message", "max_tokens: value is -1, expected at least 1"},
                                    {"type", "invalid_request_error"},
                                    {"param", "max_tokens"},
                                    {"code", "invalid_argument"}}}}));
}

TEST(ApiStatus, SaysNullWhereNoFieldIsAtFault) {
  const nlohmann::json body =
      nlohmann::json::parse(ErrorBody(ApiStatus(ResourceExhausted("queue: full"))));

  EXPECT_TRUE(body["error"]["param"].is_null());
  EXPECT_EQ(body["error"]["type"], "rate_limit_error");
  EXPECT_EQ(body["error"]["code"], "resource_exhausted");
}

TEST(ApiStatus, SurvivesInvalidUtf8InAMessage) {
  EXPECT_NE(ErrorBody(ApiStatus(NotFound("model: \"\xff\""))).find("\xef\xbf\xbd"),
            std::string::npos);
}

TEST(FinishReason, FailsWhatDidNotEndByItself) {
  const auto failure = [](FinishReason reason, Status status = Status::Ok()) {
    OutputDelta delta;
    delta.finish_reason = reason;
    delta.status = std::move(status);
    return FailureOf(delta).code();
  };

  EXPECT_EQ(failure(FinishReason::kStop), StatusCode::kOk);
  EXPECT_EQ(failure(FinishReason::kLength), StatusCode::kOk);
  EXPECT_EQ(failure(FinishReason::kDeadline), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(failure(FinishReason::kCancelled), StatusCode::kUnavailable);
  EXPECT_EQ(failure(FinishReason::kError), StatusCode::kInternal);
  EXPECT_EQ(failure(FinishReason::kError, DataLoss("x")), StatusCode::kDataLoss);
  EXPECT_TRUE(FailureOf(OutputDelta()).ok());
}

}  // namespace
}  // namespace comet
