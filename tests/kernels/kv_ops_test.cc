#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/kv_rig.h"
#include "tests/kernels/test_backends.h"

namespace comet {
namespace {

const int kLengths[] = {1, 63, 64, 65, 256, 257, 700};

std::vector<KvCase> Cases() {
  std::vector<KvCase> cases;
  for (const int k_bits : {4, 8, 16, 32}) {
    for (const int v_bits : {4, 8, 16, 32}) {
      cases.push_back({.format = {.k_bits = k_bits, .v_bits = v_bits}});
    }
  }
  for (const int group : {1, 3, 8}) {
    cases.push_back({.format = {}, .num_heads = 2 * group, .num_kv_heads = 2, .hadamard = true});
    cases.push_back(
        {.format = {}, .num_heads = group, .num_kv_heads = 1, .head_dim = 8, .rotary_dim = 8});
  }
  cases.push_back({.format = {}, .head_dim = 128, .rotary_dim = 128, .hadamard = true});
  cases.push_back({.format = {}, .head_dim = 80, .rotary_dim = 32});
  cases.push_back({.format = {8, 4}, .head_dim = 96, .rotary_dim = 96, .dtype = DType::kF16});
  cases.push_back({.format = {16, 16}, .dtype = DType::kF16, .row_padding = 7});
  for (const int window : {1, 2, 17, 255, 256, 257, 640, 5000}) {
    cases.push_back({.format = {}, .num_heads = 2, .num_kv_heads = 2, .window = window});
  }
  return cases;
}

// What the cuda back end has kernels for.
std::vector<KvCase> CudaCases() {
  std::vector<KvCase> cases;
  for (const int head_dim : {64, 128}) {
    for (const KvFormat format : {KvFormat{4, 4}, KvFormat{8, 4}, KvFormat{8, 8}}) {
      for (const int group : {1, 3, 8}) {
        cases.push_back({.format = format,
                         .num_heads = 2 * group,
                         .num_kv_heads = 2,
                         .head_dim = head_dim,
                         .rotary_dim = group == 3 ? 32 : head_dim,
                         .hadamard = group != 1,
                         .dtype = DType::kF16,
                         .row_padding = group == 8 ? 4 : 0});
      }
    }
  }
  for (const int window : {1, 2, 17, 65, 255, 256, 257, 640, 1100, 5000}) {
    cases.push_back(
        {.format = {}, .num_heads = 6, .num_kv_heads = 2, .dtype = DType::kF16, .window = window});
  }
  return cases;
}

// How many tokens at a sequence's end compute outputs: the reference is slow.
constexpr int kNumAttending = 3;

void RunLastTokens(KvRig& rig, const std::vector<int>& lengths) {
  std::vector<KvChunk> history;
  std::vector<KvChunk> last;
  for (size_t s = 0; s < lengths.size(); ++s) {
    const int sequence_idx = static_cast<int>(s);
    const int split = std::max(0, lengths[s] - kNumAttending);
    history.push_back({sequence_idx, 0, split});
    last.push_back({sequence_idx, split, lengths[s]});
  }
  rig.Step(history, /*attends=*/false);
  rig.Step(last);
}

class KvOpsTest : public BackendTest {
 protected:
  std::vector<KvCase> SupportedCases() const { return is_cuda() ? CudaCases() : Cases(); }
  std::vector<KvFormat> SomeFormats() const {
    if (is_cuda()) return {{4, 4}, {8, 4}, {8, 8}};
    return {{4, 4}, {8, 4}, {8, 8}, {16, 16}, {32, 32}};
  }
  DType dtype() const { return is_cuda() ? DType::kF16 : DType::kF32; }
};

TEST_P(KvOpsTest, QueriesHaveTheReferencesBitsAndOutputsAreNear) {
  const std::vector<int> lengths(std::begin(kLengths), std::end(kLengths));
  for (const KvCase& c : SupportedCases()) {
    KvRig expected(reference_ops(), c, lengths);
    KvRig actual(tested_ops(), c, lengths);

    RunLastTokens(expected, lengths);
    RunLastTokens(actual, lengths);

    for (size_t s = 0; s < lengths.size(); ++s) {
      const int sequence_idx = static_cast<int>(s);
      EXPECT_EQ(DifferenceOf(actual.queries(sequence_idx), expected.queries(sequence_idx)), "")
          << c << " length " << lengths[s];
      const HostTensor& outputs = actual.outputs(sequence_idx);
      const double tolerance = c.dtype == DType::kF32 ? 1e-5 : 1e-3;
      for (int p = std::max(0, lengths[s] - kNumAttending); p < lengths[s]; ++p) {
        HostTensor expected_row(c.dtype, {1, outputs.dim(1)});
        HostTensor actual_row(c.dtype, {1, outputs.dim(1)});
        for (int j = 0; j < outputs.dim(1); ++j) {
          expected_row.Set(0, j, expected.outputs(sequence_idx).At(p, j));
          actual_row.Set(0, j, outputs.At(p, j));
        }
        EXPECT_LT(RelativeErrorOf(actual_row, expected_row), tolerance)
            << c << " position " << p << " of " << lengths[s];
      }
    }
  }
}

TEST_P(KvOpsTest, AResultDependsNeitherOnChunksNorOnTheBatch) {
  const std::vector<int> lengths = {300, 130, 65, 1};
  for (const KvFormat format : SomeFormats()) {
    const KvCase c{
        .format = format, .num_heads = 6, .num_kv_heads = 2, .hadamard = true, .dtype = dtype()};
    KvRig alone(tested_ops(), c, lengths);
    KvRig mixed(tested_ops(), c, lengths);

    for (int s = 0; s < 4; ++s) alone.Step({{s, 0, lengths[static_cast<size_t>(s)]}});
    Random random(41);
    std::vector<int> done(lengths.size(), 0);
    while (done != lengths) {
      std::vector<KvChunk> chunks;
      for (size_t s = 0; s < lengths.size(); ++s) {
        const int num_left = lengths[s] - done[s];
        if (num_left == 0 || random.NextInt(3) == 0) continue;
        int num_tokens = 1 + random.NextInt(random.NextInt(2) == 0 ? 1 : std::min(num_left, 90));
        // A token alone is decoded there, by another kernel.
        if (is_cuda()) num_tokens = num_left <= 3 ? num_left : std::max(num_tokens, 2);
        if (is_cuda() && num_left - num_tokens == 1) ++num_tokens;
        chunks.push_back({static_cast<int>(s), done[s], done[s] + num_tokens});
        done[s] += num_tokens;
      }
      mixed.Step(chunks);
    }

    for (int s = 0; s < 4; ++s) {
      EXPECT_EQ(DifferenceOf(mixed.outputs(s), alone.outputs(s)), "") << c << " sequence " << s;
    }
  }
}

TEST_P(KvOpsTest, ADecodedTokensResultDoesNotDependOnTheBatch) {
  const std::vector<int> lengths = {1300, 130, 65, 2};
  for (const KvFormat format : SomeFormats()) {
    const KvCase c{.format = format, .num_heads = 6, .num_kv_heads = 2, .dtype = dtype()};
    KvRig alone(tested_ops(), c, lengths);
    KvRig together(tested_ops(), c, lengths);

    std::vector<KvChunk> history;
    std::vector<KvChunk> last;
    for (int s = 0; s < 4; ++s) {
      const int length = lengths[static_cast<size_t>(s)];
      history.push_back({s, 0, s == 2 ? 30 : length - 1});
      last.push_back({s, s == 2 ? 30 : length - 1, length});  // The third is a chunk.
    }
    alone.Step(history, /*attends=*/false);
    for (const KvChunk& chunk : last) alone.Step({chunk});
    together.Step(history, /*attends=*/false);
    together.Step(last);

    for (int s = 0; s < 4; ++s) {
      EXPECT_EQ(DifferenceOf(together.outputs(s), alone.outputs(s)), "") << c << " sequence " << s;
    }
  }
}

TEST_P(KvOpsTest, AWindowedResultDependsNeitherOnChunksNorOnTheBatch) {
  for (const int window : {1, 3, 70, 256, 290}) {
    const KvCase c{
        .format = {}, .num_heads = 6, .num_kv_heads = 2, .dtype = dtype(), .window = window};
    KvRig alone(tested_ops(), c, {600});
    KvRig mixed(tested_ops(), c, {600});

    alone.Step({{0, 0, 600}});
    for (int begin = 0; begin < 600; begin += 7) mixed.Step({{0, begin, std::min(begin + 7, 600)}});

    EXPECT_EQ(DifferenceOf(mixed.outputs(0), alone.outputs(0)), "") << c;
  }
}

TEST_P(KvOpsTest, ANonFiniteValueIsNotReadPastTheWindow) {
  for (const KvFormat format : SomeFormats()) {
    for (const int column : {3 * 64, 4 * 64}) {
      KvRig rig(tested_ops(), {.format = format, .dtype = dtype(), .window = 5}, {40});
      rig.qkv(0).Set(20, column, std::numeric_limits<double>::quiet_NaN());

      rig.Step({{0, 0, 40}});

      for (int p = 0; p < 40; ++p) {
        EXPECT_EQ(std::isnan(rig.outputs(0).At(p, 0)), p >= 20 && p < 25) << p;
      }
    }
  }
}

TEST_P(KvOpsTest, AResultDoesNotDependOnScratch) {
  const std::vector<int> lengths = {5000, 1, 1024, 1025, 2048};
  for (const KvFormat format : SomeFormats()) {
    const KvCase c{.format = format, .num_heads = 6, .num_kv_heads = 2, .dtype = dtype()};
    KvRig with(tested_ops(), c, lengths);
    KvRig without(tested_ops(), c, lengths);
    without.set_has_scratch(false);
    std::vector<KvChunk> history;
    std::vector<KvChunk> last;
    for (int s = 0; s < 5; ++s) {
      const int length = lengths[static_cast<size_t>(s)];
      history.push_back({s, 0, length - 1});
      last.push_back({s, length - 1, length});
    }

    for (KvRig* rig : {&with, &without}) {
      rig->Step(history, /*attends=*/false);
      rig->Step(last);
    }

    for (int s = 0; s < 5; ++s) {
      EXPECT_EQ(DifferenceOf(with.outputs(s), without.outputs(s)), "") << c << " sequence " << s;
    }
  }
}

TEST_P(KvOpsTest, HaveTheBitsOfTheScalarKernels) {
  if (is_cuda()) GTEST_SKIP() << "attention on cuda is within a tolerance of the host's";
  const Backend scalar =
      MakeBackend({.device = "cpu", .cpu_isa = "scalar", .num_threads = 1}).value();
  const std::vector<int> lengths = {270, 19};
  for (const KvFormat format : {KvFormat{4, 4}, KvFormat{8, 8}, KvFormat{16, 32}}) {
    const KvCase c{.format = format, .num_heads = 3, .num_kv_heads = 1, .hadamard = true};
    KvRig expected(*scalar.ops, c, lengths);
    KvRig actual(tested_ops(), c, lengths);

    expected.Step({{0, 0, 270}, {1, 0, 19}});
    actual.Step({{0, 0, 270}, {1, 0, 19}});

    EXPECT_EQ(DifferenceOf(actual.outputs(0), expected.outputs(0)), "") << c;
    EXPECT_EQ(DifferenceOf(actual.outputs(1), expected.outputs(1)), "") << c;
  }
}

TEST_P(KvOpsTest, ANonFiniteKeyOrValueReachesItsReadersOnly) {
  for (const KvFormat format : SomeFormats()) {
    for (const int column : {3 * 64, 4 * 64}) {  // A channel of the key, and of the value.
      const KvCase c{.format = format, .dtype = dtype()};
      KvRig rig(tested_ops(), c, {40});
      rig.qkv(0).Set(20, column, std::numeric_limits<double>::quiet_NaN());

      rig.Step({{0, 0, 40}});

      for (int p = 0; p < 40; ++p) EXPECT_EQ(std::isnan(rig.outputs(0).At(p, 0)), p >= 20) << p;
    }
  }
}

TEST_P(KvOpsTest, AnEmptyBatchDoesNothing) {
  KvRig rig(tested_ops(), {.format = {}, .dtype = dtype()}, {64});

  rig.Step({});
  rig.Step({{0, 0, 0}});
}

TEST_P(KvOpsTest, FourBitPagesTakeAboutAQuarterOfHalfPrecision) {
  const int64_t bytes4 = tested_ops().KvPageBytes({4, 4}, 8, 128);
  const int64_t bytes16 = tested_ops().KvPageBytes({16, 16}, 8, 128);

  EXPECT_EQ(bytes16, int64_t{8} * 64 * 128 * 2 * 2);
  EXPECT_LE(bytes4, bytes16 * 27 / 100);
}

COMET_INSTANTIATE_FOR_BACKENDS(KvOpsTest);

}  // namespace
}  // namespace comet
