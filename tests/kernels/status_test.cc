#include "kernels/base/status.h"

#include <gtest/gtest.h>

#include <memory>

namespace comet {
namespace {

Result<int> Half(int value) {
  if (value % 2 != 0) return InvalidArgument("Half: value is odd");
  return value / 2;
}

Result<int> Quarter(int value) {
  COMET_ASSIGN_OR_RETURN(const int half, Half(value));
  return Half(half);
}

TEST(Result, PassesErrorsOn) {
  EXPECT_EQ(Quarter(8).value(), 2);
  EXPECT_EQ(Quarter(6).status().code(), StatusCode::kInvalidArgument);
}

TEST(Result, HoldsMoveOnlyValues) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(3);

  const std::unique_ptr<int> value = std::move(result).value();

  EXPECT_EQ(*value, 3);
}

TEST(ResultDeathTest, ReadingAFailedResultAborts) {
  const Result<int> result = NotFound("gone");

  EXPECT_DEATH({ (void)result.value(); }, "gone");
}

}  // namespace
}  // namespace comet
