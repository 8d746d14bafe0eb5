#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cuda/oracle/kv_rows.h"
#include "kernels/reference/kv_page.h"
#include "tests/kernels/kv_rig.h"
#include "tests/kernels/test_backends.h"

namespace comet {
namespace {

class CudaRopeAppendTest : public BackendTest {
 protected:
  // What both caches hold of a sequence's tokens, bit by bit; NaN equals NaN.
  static void ExpectSameRows(KvRig& actual, KvRig& expected, int sequence_idx, int length) {
    const KvCacheView actual_cache = actual.cache();
    const KvCacheView expected_cache = expected.cache();
    const size_t head_dim = static_cast<size_t>(actual_cache.head_dim);
    std::vector<float> actual_row(head_dim);
    std::vector<float> expected_row(head_dim);
    for (int p = 0; p < length; ++p) {
      for (int head = 0; head < actual_cache.num_kv_heads; ++head) {
        for (const bool is_key : {true, false}) {
          cuda::ReadKvRow(actual_cache, actual.page_id(sequence_idx, p), head, p % kPageTokens,
                          is_key, actual_row);
          reference::ReadKvRow(
              expected_cache,
              {.side = is_key ? reference::KvSide::kKey : reference::KvSide::kValue,
               .page_id = expected.page_id(sequence_idx, p),
               .kv_head_idx = head,
               .token_idx = p % kPageTokens},
              expected_row);
          for (size_t d = 0; d < head_dim; ++d) {
            const bool are_nan = std::isnan(actual_row[d]) && std::isnan(expected_row[d]);
            ASSERT_TRUE(are_nan || actual_row[d] == expected_row[d])
                << (is_key ? "key" : "value") << " of position " << p << " head " << head
                << " channel " << d << ": " << actual_row[d] << ", expected " << expected_row[d];
          }
        }
      }
    }
  }
};

TEST_P(CudaRopeAppendTest, TheCacheHoldsTheReferencesKeysAndValues) {
  const std::vector<int> lengths = {1, 130, 17, 64, 40};
  for (const int head_dim : {64, 128}) {
    for (const KvFormat format : {KvFormat{4, 4}, KvFormat{8, 4}, KvFormat{8, 8}}) {
      for (const bool is_plain : {true, false}) {
        const KvCase c{.format = format,
                       .num_heads = 3,
                       .num_kv_heads = 3,
                       .head_dim = head_dim,
                       .rotary_dim = is_plain ? head_dim : 24,
                       .hadamard = is_plain,
                       .dtype = DType::kF16,
                       .row_padding = is_plain ? 4 : 3};
        KvRig expected(reference_ops(), c, lengths);
        KvRig actual(tested_ops(), c, lengths);
        for (KvRig* rig : {&expected, &actual}) {
          HostTensor& qkv = rig->qkv(1);
          const int first_key = c.num_heads * head_dim;
          const int first_value = first_key + c.num_kv_heads * head_dim;
          qkv.Set(3, first_key, std::numeric_limits<double>::quiet_NaN());
          qkv.Set(4, first_value + 5, -std::numeric_limits<double>::infinity());
          for (int d = 0; d < head_dim; ++d) qkv.Set(5, first_value + d, 0.25);  // Constant.
          rig->Step({{0, 0, 1}, {1, 0, 77}, {2, 0, 17}, {3, 0, 63}, {4, 0, 40}}, false);
          rig->Step({{1, 77, 129}, {3, 63, 64}}, false);
          rig->Step({{1, 129, 130}}, false);
        }

        for (int s = 0; s < static_cast<int>(lengths.size()); ++s) {
          SCOPED_TRACE(testing::Message() << c << " sequence " << s);
          ExpectSameRows(actual, expected, s, lengths[static_cast<size_t>(s)]);
          EXPECT_EQ(DifferenceOf(actual.queries(s), expected.queries(s)), "");
        }
      }
    }
  }
}

// A CTA a token, which goes over the heads more often than it loads ahead: 80 heads of 128 channels
// five times, of 64 three times.
TEST_P(CudaRopeAppendTest, AModelWithManyHeadsHasTheReferencesRows) {
  const std::vector<int> lengths = {300, 257};
  for (const int head_dim : {64, 128}) {
    for (const bool is_plain : {true, false}) {
      const KvCase c{.format = is_plain ? KvFormat{4, 4} : KvFormat{8, 4},
                     .num_heads = 64,
                     .num_kv_heads = 8,
                     .head_dim = head_dim,
                     .rotary_dim = is_plain ? head_dim : head_dim / 2,
                     .hadamard = is_plain,
                     .dtype = DType::kF16,
                     .row_padding = is_plain ? 4 : 3};
      KvRig expected(reference_ops(), c, lengths);
      KvRig actual(tested_ops(), c, lengths);
      for (KvRig* rig : {&expected, &actual}) rig->Step({{0, 0, 300}, {1, 0, 257}}, false);

      for (int s = 0; s < static_cast<int>(lengths.size()); ++s) {
        SCOPED_TRACE(testing::Message() << c << " sequence " << s);
        ExpectSameRows(actual, expected, s, lengths[static_cast<size_t>(s)]);
        EXPECT_EQ(DifferenceOf(actual.queries(s), expected.queries(s)), "");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, CudaRopeAppendTest,
                         testing::Values(BackendOptions{.device = "cuda"}), NameOf);

}  // namespace
}  // namespace comet
