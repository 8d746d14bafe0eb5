#include "kernels/cpu/candidate_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/base/random.h"

namespace comet::cpu {
namespace {

TEST(CandidateOrder, IsTheFullSortHoweverFarItIsAsked) {
  for (const float scale : {0.0f, 1.0f, 6.0f, 1000.0f}) {
    Random random(71);
    std::vector<float> values(3000);
    // Quarters: many ties, and values exactly at the ends of the bands.
    for (float& value : values) value = std::round(4.0f * scale * random.NextNormal()) / 4.0f;
    std::vector<int> expected(values.size());
    std::iota(expected.begin(), expected.end(), 0);
    std::stable_sort(expected.begin(), expected.end(), [&](int a, int b) {
      return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
    });

    Scratch<int> ids;
    CandidateOrder order(values, ids);

    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(order[static_cast<int>(i)], expected[i]) << "scale " << scale << " place " << i;
    }
  }
}

}  // namespace
}  // namespace comet::cpu
