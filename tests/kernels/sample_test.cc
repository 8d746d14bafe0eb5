#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/host_tensor.h"
#include "tests/kernels/test_backends.h"

namespace comet {
namespace {

struct Row {
  float temperature = 1.0f;
  int top_k = 0;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  float uniform = 0.5f;
  std::vector<std::pair<int, int>> history = {};  // id, count
  std::vector<std::pair<int, float>> bias = {};
};

struct Sampled {
  HostTensor token;
  HostTensor logprob;
  HostTensor nonfinite_count;
  HostTensor top_ids;
  HostTensor top_logprobs;
};

template <typename Field>
HostTensor Column(const std::vector<Row>& rows, Field Row::*field) {
  std::vector<Field> values;
  for (const Row& row : rows) values.push_back(row.*field);
  if constexpr (std::is_same_v<Field, float>)
    return HostTensor::OfFloats(values);
  else
    return HostTensor::OfInts(values);
}

Sampled SampleRows(Ops& ops, const HostTensor& logits, const std::vector<Row>& rows,
                   int num_top = 5) {
  const int num_rows = static_cast<int>(rows.size());
  std::vector<int32_t> history_start = {0};
  std::vector<int32_t> history_ids;
  std::vector<int32_t> history_counts;
  std::vector<int32_t> bias_start = {0};
  std::vector<int32_t> bias_ids;
  std::vector<float> bias_values;
  for (const Row& row : rows) {
    for (const auto& [id, count] : row.history) {
      history_ids.push_back(id);
      history_counts.push_back(count);
    }
    for (const auto& [id, value] : row.bias) {
      bias_ids.push_back(id);
      bias_values.push_back(value);
    }
    history_start.push_back(static_cast<int32_t>(history_ids.size()));
    bias_start.push_back(static_cast<int32_t>(bias_ids.size()));
  }
  Sampled out{.token = HostTensor(DType::kI32, {num_rows}),
              .logprob = HostTensor(DType::kF32, {num_rows}),
              .nonfinite_count = HostTensor(DType::kI32, {num_rows}),
              .top_ids = HostTensor(DType::kI32, {num_rows, num_top}),
              .top_logprobs = HostTensor(DType::kF32, {num_rows, num_top})};
  const auto column = [&](auto field) { return Column(rows, field); };
  HostTensor scratch(DType::kF32, {num_rows, logits.dim(1)});
  const HostTensor temperature = column(&Row::temperature);
  const HostTensor top_k = column(&Row::top_k);
  const HostTensor top_p = column(&Row::top_p);
  const HostTensor min_p = column(&Row::min_p);
  const HostTensor repetition = column(&Row::repetition_penalty);
  const HostTensor presence = column(&Row::presence_penalty);
  const HostTensor frequency = column(&Row::frequency_penalty);
  const HostTensor uniform = column(&Row::uniform);
  const HostTensor history_starts = HostTensor::OfInts(history_start);
  const HostTensor ids = HostTensor::OfInts(history_ids);
  const HostTensor counts = HostTensor::OfInts(history_counts);
  const HostTensor bias_starts = HostTensor::OfInts(bias_start);
  const HostTensor biased_ids = HostTensor::OfInts(bias_ids);
  const HostTensor biases = HostTensor::OfFloats(bias_values);
  EXPECT_EQ(ops.Sample({.token = out.token.view(),
                        .logprob = out.logprob.view(),
                        .nonfinite_count = out.nonfinite_count.view(),
                        .top_ids = out.top_ids.view(),
                        .top_logprobs = out.top_logprobs.view(),
                        .scratch = scratch.view(),
                        .logits = logits.view(),
                        .temperature = temperature.view(),
                        .top_k = top_k.view(),
                        .top_p = top_p.view(),
                        .min_p = min_p.view(),
                        .repetition_penalty = repetition.view(),
                        .presence_penalty = presence.view(),
                        .frequency_penalty = frequency.view(),
                        .uniform = uniform.view(),
                        .history_start = history_starts.view(),
                        .history_ids = ids.view(),
                        .history_counts = counts.view(),
                        .bias_start = bias_starts.view(),
                        .bias_ids = biased_ids.view(),
                        .bias_values = biases.view()}),
            Status::Ok());
  EXPECT_TRUE(out.token.GuardsAreIntact() && out.logprob.GuardsAreIntact() &&
              out.nonfinite_count.GuardsAreIntact() && scratch.GuardsAreIntact() &&
              out.top_ids.GuardsAreIntact() && out.top_logprobs.GuardsAreIntact());
  return out;
}

HostTensor RandomLogits(int num_rows, int vocab_size, float scale) {
  HostTensor logits(DType::kF32, {num_rows, vocab_size}, 3);
  Random random(51);
  logits.FillNormal(random, scale);
  // Rounded to quarters, so that there are ties.
  for (int r = 0; r < num_rows; ++r) {
    for (int id = 0; id < vocab_size; ++id) logits.Set(r, id, std::round(4 * logits.At(r, id)) / 4);
  }
  return logits;
}

std::vector<Row> Rows(int num_rows, int vocab_size) {
  const Row kinds[] = {
      {.temperature = 0.0f},
      {},
      {.top_k = 1},
      {.top_k = 40},
      {.top_p = 0.9f},
      {.top_p = 0.0f},
      {.min_p = 0.1f},
      {.min_p = 1.0f},
      {.temperature = 0.3f, .top_k = 50, .top_p = 0.8f, .min_p = 0.02f},
      {.temperature = 5.0f, .top_p = 0.999f},
      {.temperature = 0.0f, .repetition_penalty = 1.3f},
      {.repetition_penalty = 1.3f, .presence_penalty = 0.5f, .frequency_penalty = 0.25f},
      {.temperature = 0.01f},
  };
  std::vector<Row> rows;
  Random random(53);
  for (int r = 0; r < num_rows; ++r) {
    Row row = kinds[static_cast<size_t>(r) % std::size(kinds)];
    row.uniform = random.NextFloat();
    for (int i = 0; i < random.NextInt(6); ++i) {
      row.history.emplace_back((r + i * 7) % vocab_size, random.NextInt(3));
      row.bias.emplace_back((r * 3 + i) % vocab_size, random.NextFloat(-5.0f, 5.0f));
    }
    rows.push_back(row);
  }
  return rows;
}

class SampleTest : public BackendTest {};

TEST_P(SampleTest, ChoosesTheReferencesTokens) {
  for (const int vocab_size : {20, 33, 1000, 1025, 49152}) {
    for (const float scale : {0.0f, 0.5f, 3.0f, 30.0f}) {
      const int num_rows = vocab_size > 1025 ? 13 : 52;
      const HostTensor logits = RandomLogits(num_rows, vocab_size, scale);
      const std::vector<Row> rows = Rows(num_rows, vocab_size);

      const Sampled expected = SampleRows(reference_ops(), logits, rows);
      const Sampled actual = SampleRows(tested_ops(), logits, rows);

      EXPECT_EQ(DifferenceOf(actual.token, expected.token), "") << vocab_size << " " << scale;
      EXPECT_EQ(DifferenceOf(actual.top_ids, expected.top_ids), "") << vocab_size << " " << scale;
      if (is_cuda()) {  // The device's log may be 2 ulp off.
        EXPECT_LT(RelativeErrorOf(actual.logprob, expected.logprob), 1e-6);
        EXPECT_LT(RelativeErrorOf(actual.top_logprobs, expected.top_logprobs), 1e-6);
      } else {
        EXPECT_EQ(DifferenceOf(actual.logprob, expected.logprob), "") << vocab_size << " " << scale;
        EXPECT_EQ(DifferenceOf(actual.top_logprobs, expected.top_logprobs), "");
      }
      EXPECT_EQ(DifferenceOf(actual.nonfinite_count, expected.nonfinite_count), "");
    }
  }
}

TEST_P(SampleTest, GreedyTakesTheLowestIdAmongEquals) {
  HostTensor logits(DType::kF32, {1, 100});
  for (int id = 0; id < 100; ++id) logits.Set(0, id, id == 37 || id == 90 ? 2.0 : -1.0);

  EXPECT_EQ(SampleRows(tested_ops(), logits, {{.temperature = 0.0f}}).token.At(0, 0), 37);
}

TEST_P(SampleTest, FollowsTheDistribution) {
  HostTensor logits(DType::kF32, {1000, 4});
  std::vector<Row> rows;
  for (int r = 0; r < 1000; ++r) {
    for (int id = 0; id < 4; ++id) logits.Set(r, id, std::log(0.1 * (id + 1)));
    rows.push_back({.uniform = (static_cast<float>(r) + 0.5f) / 1000.0f});
  }

  const Sampled sampled = SampleRows(tested_ops(), logits, rows, /*num_top=*/4);

  std::vector<int> counts(4, 0);
  for (int r = 0; r < 1000; ++r) ++counts[static_cast<size_t>(sampled.token.At(0, r))];
  EXPECT_EQ(counts, (std::vector<int>{100, 200, 300, 400}));
}

TEST_P(SampleTest, ARunningSumEqualToTheTargetGoesOn) {
  HostTensor logits(DType::kF32, {3, 2});
  for (int r = 0; r < 3; ++r) {
    logits.Set(r, 0, 1.0);
    logits.Set(r, 1, 1.0);
  }

  const Sampled sampled = SampleRows(tested_ops(), logits,
                                     {{.uniform = 0.0f}, {.uniform = 0.5f}, {.uniform = 0.49f}}, 2);

  EXPECT_EQ(sampled.token.At(0, 0), 0);
  EXPECT_EQ(sampled.token.At(0, 1), 1);
  EXPECT_EQ(sampled.token.At(0, 2), 0);
}

TEST_P(SampleTest, MarksRowsThatAreNotFinite) {
  HostTensor logits(DType::kF32, {4, 50});
  Random random(57);
  logits.FillNormal(random, 1.0f);
  logits.Set(0, 49, std::numeric_limits<double>::quiet_NaN());
  logits.Set(1, 0, std::numeric_limits<double>::infinity());
  logits.Set(1, 7, -std::numeric_limits<double>::infinity());
  const float infinity = std::numeric_limits<float>::infinity();

  const Sampled sampled = SampleRows(tested_ops(), logits, {{}, {}, {.bias = {{3, infinity}}}, {}});

  EXPECT_EQ(sampled.token.At(0, 0), -1);
  EXPECT_EQ(sampled.nonfinite_count.At(0, 0), 1);
  EXPECT_EQ(sampled.nonfinite_count.At(0, 1), 2);
  EXPECT_EQ(sampled.nonfinite_count.At(0, 2), 1);
  EXPECT_EQ(sampled.token.At(0, 2), -1);
  EXPECT_EQ(sampled.top_ids.At(1, 4), -1);
  EXPECT_EQ(sampled.nonfinite_count.At(0, 3), 0);
  EXPECT_GE(sampled.token.At(0, 3), 0);
}

TEST_P(SampleTest, ARowDoesNotDependOnTheOthers) {
  const HostTensor logits = RandomLogits(26, 5000, 2.0f);
  const std::vector<Row> rows = Rows(26, 5000);
  const Sampled together = SampleRows(tested_ops(), logits, rows);

  for (int r = 0; r < 26; ++r) {
    HostTensor row_logits(DType::kF32, {1, 5000});
    for (int id = 0; id < 5000; ++id) row_logits.Set(0, id, logits.At(r, id));
    const Sampled alone = SampleRows(tested_ops(), row_logits, {rows[static_cast<size_t>(r)]});

    EXPECT_EQ(alone.token.At(0, 0), together.token.At(0, r)) << r;
    EXPECT_EQ(alone.logprob.At(0, 0), together.logprob.At(0, r)) << r;
  }
}

COMET_INSTANTIATE_FOR_BACKENDS(SampleTest);

}  // namespace
}  // namespace comet
