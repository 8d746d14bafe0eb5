#include "server/admission/admission.h"

#include <gtest/gtest.h>

#include <optional>

namespace comet {
namespace {

TEST(Admission, RefusesBeyondItsLimitAndCounts) {
  Admission admission(2);
  const Result<AdmissionTicket> first = admission.Admit();
  const Result<AdmissionTicket> second = admission.Admit();

  const Result<AdmissionTicket> third = admission.Admit();

  EXPECT_TRUE(first.ok());
  EXPECT_TRUE(second.ok());
  EXPECT_EQ(third.status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(admission.num_in_flight(), 2);
  EXPECT_EQ(admission.num_rejections(Rejection::kInFlight), 1);
}

TEST(Admission, MakesRoomWhenATicketEnds) {
  Admission admission(1);
  std::optional<AdmissionTicket> ticket(std::move(admission.Admit()).value());
  EXPECT_FALSE(admission.Admit().ok());

  ticket.reset();

  EXPECT_EQ(admission.num_in_flight(), 0);
  EXPECT_TRUE(admission.Admit().ok());
}

TEST(Admission, MovesATicketWithoutReleasingIt) {
  Admission admission(2);
  AdmissionTicket first = std::move(admission.Admit()).value();

  const AdmissionTicket moved = std::move(first);

  EXPECT_EQ(admission.num_in_flight(), 1);
}

TEST(Admission, RefusesWhileDraining) {
  Admission admission(1);

  admission.BeginDrain();

  EXPECT_EQ(admission.Admit().status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(admission.num_rejections(Rejection::kDraining), 1);
}

TEST(Admission, CountsOnlyOverloadAndDrainOfOthers) {
  Admission admission(1);

  admission.CountRefusal(Rejection::kQueueFull, InvalidArgument("x"));
  admission.CountRefusal(Rejection::kQueueFull, ResourceExhausted("x"));
  admission.CountRefusal(Rejection::kQueueFull, Unavailable("x"));

  EXPECT_EQ(admission.num_rejections(Rejection::kQueueFull), 1);
  EXPECT_EQ(admission.num_rejections(Rejection::kDraining), 1);
}

}  // namespace
}  // namespace comet
