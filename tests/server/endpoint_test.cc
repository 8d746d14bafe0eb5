#include "server/api/endpoint.h"

#include <gtest/gtest.h>

namespace comet {
namespace {

TEST(FormatEndpoint, PutsIpv6IntoBrackets) {
  EXPECT_EQ(FormatEndpoint("127.0.0.1", 80), "127.0.0.1:80");
  EXPECT_EQ(FormatEndpoint("::1", 80), "[::1]:80");
}

}  // namespace
}  // namespace comet
