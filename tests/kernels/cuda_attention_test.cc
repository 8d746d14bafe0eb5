#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/random.h"
#include "kernels/cuda/oracle/naive_attention.h"
#include "tests/kernels/cuda_attention_rig.h"
#include "tests/kernels/cuda_fixture.h"

namespace comet {
namespace {

float FloatOf(uint16_t bits) { return ToFloat(Half{bits}); }

// Attention at sizes the scalar reference cannot reach, against an oracle in double, and against
// itself in other batches.
class CudaAttentionTest : public CudaTest {
 protected:
  std::vector<uint16_t> Run(CudaAttentionRig& rig, const AttentionArgs& args) {
    EXPECT_EQ(ops_->Attention(args), Status::Ok());
    return rig.DownloadOut();
  }

  void ExpectNear(const LargeAttentionCase& c) {
    CudaAttentionRig rig(*device_, *ops_, c, /*seed=*/61);
    const std::vector<uint16_t> actual = Run(rig, rig.Args());

    ASSERT_EQ(cuda::NaiveAttention(*device_, rig.Args()), Status::Ok());
    const std::vector<uint16_t> expected = rig.DownloadOut();
    const size_t num_channels = static_cast<size_t>(rig.num_q_channels());
    double error_max = 0;
    for (size_t row = 0; row < actual.size(); row += num_channels) {
      double error = 0;
      double largest = 0;
      for (size_t i = row; i < row + num_channels; ++i) {
        const double difference = std::fabs(FloatOf(actual[i]) - FloatOf(expected[i]));
        error = std::isnan(difference) ? INFINITY : std::max<double>(error, difference);
        largest = std::max<double>(largest, std::fabs(FloatOf(expected[i])));
      }
      error_max = std::max(error_max, error / largest);
    }
    EXPECT_LT(error_max, 1e-3) << c;
    RecordProperty("error_max", std::to_string(error_max));
  }
};

// Ragged lengths around the pages', groups', tiles' and units' ends.
std::vector<AttentionSequence> Ragged(int num_sequences, int length_max, int queries_max,
                                      uint64_t seed) {
  Random random(seed);
  std::vector<AttentionSequence> sequences;
  for (int s = 0; s < num_sequences; ++s) {
    constexpr int kEnds[] = {1, 63, 64, 65, 127, 128, 129, 256, 257, 1023, 1024, 1025, 2049};
    const int length =
        random.NextInt(3) == 0 ? kEnds[random.NextInt(13)] : 1 + random.NextInt(length_max);
    sequences.push_back({std::min(length, length_max), 0});
    int& num_queries = sequences.back().num_queries;
    num_queries = random.NextInt(4) == 0 ? 1 : 1 + random.NextInt(queries_max);
    num_queries = std::min(num_queries, sequences.back().context_length);
  }
  return sequences;
}

TEST_F(CudaAttentionTest, TheOracleAgreesWhereTheReferenceDoes) {
  for (const KvFormat format : {KvFormat{4, 4}, KvFormat{8, 4}, KvFormat{8, 8}}) {
    LargeAttentionCase c{.sequences = {{70, 3}, {1, 1}, {130, 130}},
                         .format = format,
                         .num_heads = 4,
                         .num_kv_heads = 2,
                         .head_dim = 64};
    for (const int window : {0, 50}) {
      c.window = window;
      ExpectNear(c);  // KvOpsTest holds cuda's attention to the reference at these sizes.
    }
  }
}

TEST_F(CudaAttentionTest, LargeDecodeBatchesAreNear) {
  ExpectNear({.sequences = Ragged(2048, 700, 1, 67)});
  ExpectNear({.sequences = Ragged(300, 5000, 1, 71), .num_heads = 64});
  ExpectNear({.sequences = Ragged(100, 3000, 1, 73), .format = {8, 4}, .num_kv_heads = 4});
  ExpectNear({.sequences = Ragged(100, 3000, 1, 79), .format = {8, 8}, .head_dim = 64});
  ExpectNear({.sequences = Ragged(64, 9000, 1, 83), .num_heads = 8, .window = 4096});
}

TEST_F(CudaAttentionTest, LongContextsAreNear) {
  ExpectNear({.sequences = {{131072, 1}}});
  ExpectNear({.sequences = {{131071, 1}, {77777, 1}}, .format = {8, 8}, .head_dim = 64});
  ExpectNear({.sequences = {{131072, 5}}, .num_heads = 8});
  ExpectNear({.sequences = {{131000, 1}, {100000, 40}}, .num_heads = 8, .window = 3000});
}

TEST_F(CudaAttentionTest, ChunksAmongDecodesAreNear) {
  ExpectNear({.sequences = Ragged(40, 3000, 300, 89)});
  ExpectNear({.sequences = Ragged(20, 2500, 500, 97), .format = {8, 4}, .num_heads = 64});
  ExpectNear({.sequences = Ragged(20, 2500, 300, 101), .format = {8, 8}, .num_kv_heads = 32});
  ExpectNear({.sequences = Ragged(30, 2500, 300, 103),
              .num_heads = 21,
              .num_kv_heads = 3,
              .head_dim = 64});
  ExpectNear({.sequences = Ragged(20, 4000, 900, 107), .window = 1000});
  ExpectNear({.sequences = {{2048, 2048}, {2048, 2048}}, .num_heads = 8, .num_kv_heads = 2});
}

TEST_F(CudaAttentionTest, ASequencesBitsDependNeitherOnTheBatchNorOnTheRun) {
  for (const KvFormat format : {KvFormat{4, 4}, KvFormat{8, 8}}) {
    const LargeAttentionCase c{.sequences = Ragged(90, 4000, 200, 109), .format = format};
    CudaAttentionRig rig(*device_, *ops_, c, /*seed=*/113);
    const std::vector<uint16_t> together = Run(rig, rig.Args());
    for (int i = 0; i < 5; ++i) EXPECT_EQ(Run(rig, rig.Args()), together);

    for (int s = 0; s < rig.num_sequences(); s += 3) {
      const std::vector<uint16_t> alone = Run(rig, rig.Args(s, s + 1));
      const auto first = together.begin() + int64_t{rig.first_row(s)} * rig.num_q_channels();
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), first)) << c << " sequence " << s;
    }
  }
}

TEST_F(CudaAttentionTest, AChunksBitsDoNotDependOnWhereItBegins) {
  const LargeAttentionCase c{.sequences = {{3000, 3000}}};
  CudaAttentionRig rig(*device_, *ops_, c, /*seed=*/127);
  // Logits of some tens, so that what a maximum loses in rounding would be seen.
  const auto run = [&](AttentionArgs args) {
    args.softmax_scale *= 16;
    return Run(rig, args);
  };
  const std::vector<uint16_t> whole = run(rig.Args());

  for (const int num_queries : {2, 3, 31, 32, 33, 64, 100, 1000, 2999}) {
    const std::vector<uint16_t> chunk = run(rig.Args(0, 1, num_queries));
    EXPECT_TRUE(std::equal(chunk.rbegin(), chunk.rend(), whole.rbegin())) << num_queries;
  }
}

}  // namespace
}  // namespace comet
