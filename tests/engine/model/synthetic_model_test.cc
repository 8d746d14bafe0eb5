// Two-layer twins of the published shapes, in random weights: what one back end computes is what
// another does.
#include "engine/model/synthetic_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "engine/model/model.h"
#include "engine/quantizer/model_shape.h"
#include "kernels/base/math.h"
#include "kernels/make_backend.h"
#include "tests/engine/test_data.h"

namespace comet {
namespace {

std::string ShapesFolder() { return EnvironmentOr("COMET_SOURCE_DIR", ".") + "/configs/models"; }

// Named here, as the list of tests must not depend on where they run; a test holds it to the
// folder.
constexpr const char* kShapeNames[] = {
    "llama-1-7b", "llama-1-13b", "llama-2-7b",   "llama-2-13b",   "llama-2-70b",
    "llama-3-8b", "llama-3-70b", "llama-3.1-8b", "llama-3.1-70b", "mistral-7b",
    "qwen2-7b",   "qwen2-72b",   "smollm2-135m"};

SyntheticModel TwinOf(const std::string& name, int vocab_size) {
  const Result<ModelShape> shape = ReadModelShape(ShapesFolder() + "/" + name + ".json");
  EXPECT_TRUE(shape.ok()) << shape.status();
  SyntheticModel twin{.config = shape->config, .has_qkv_bias = shape->has_qkv_bias};
  twin.config.num_layers = 2;
  twin.config.vocab_size = vocab_size;
  twin.config.bos_id = -1;
  twin.config.eos_ids.clear();
  return twin;
}

constexpr int kPromptTokens = 96;  // Two pages.
constexpr int kVocabSize = 2048;

// Logits of every position of a prompt in two chunks, then of some decoded tokens, row-major.
Result<std::vector<float>> LogitsOf(const std::string& device, const SyntheticModel& twin) {
  COMET_ASSIGN_OR_RETURN(Backend backend, MakeBackend({.device = device}));
  const ModelLimits limits{.step_tokens_max = kPromptTokens,
                           .sequences_max = 1,
                           .logits_rows_max = kPromptTokens,
                           .pages_per_sequence_max = 2,
                           .num_pages = 2};
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model,
                         Model::Load(backend, twin, Precision{}, limits));
  const std::vector<int> page_table{1, 0};
  std::vector<float> all;
  int context = 0;
  for (const int chunk : {70, 24, 1, 1}) {
    std::vector<int> token_ids(static_cast<size_t>(chunk));
    for (int& id : token_ids) id = (context++ * 37 + 11) % kVocabSize;
    std::vector<int> rows(static_cast<size_t>(chunk));
    std::iota(rows.begin(), rows.end(), 0);
    const std::vector<int> query_start{0, chunk};
    const std::vector<int> context_length{context};
    COMET_ASSIGN_OR_RETURN(const TensorView logits,
                           model->Forward({.token_ids = token_ids,
                                           .query_start = query_start,
                                           .context_length = context_length,
                                           .page_table = page_table,
                                           .logits_rows = rows}));
    const size_t num_before = all.size();
    all.resize(num_before + static_cast<size_t>(chunk) * kVocabSize);
    COMET_RETURN_IF_ERROR(backend.device->CopyToHost(
        all.data() + num_before, logits.data(),
        static_cast<int64_t>((all.size() - num_before) * sizeof(float))));
  }
  return all;
}

// Attention is within 1e-3 of its largest output between back ends (kernels/ops/attention.h). An
// activation that this moves across a rounding changes a code by one part in 127 of its row's
// largest, and two layers of a few thousand channels average those: 1e-2 of the logits' root mean
// square has room for no other fault.
void ExpectClose(const std::vector<float>& got, const std::vector<float>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  double squares = 0;
  double error_squares = 0;
  int num_agreeing = 0;
  const size_t num_rows = expected.size() / kVocabSize;
  for (size_t r = 0; r < num_rows; ++r) {
    const auto row = static_cast<std::ptrdiff_t>(r * kVocabSize);
    for (std::ptrdiff_t i = row; i < row + kVocabSize; ++i) {
      const size_t idx = static_cast<size_t>(i);
      ASSERT_TRUE(std::isfinite(got[idx])) << "row " << r;
      const double error = got[idx] - expected[idx];
      squares += expected[idx] * expected[idx];
      error_squares += error * error;
    }
    num_agreeing +=
        std::max_element(got.begin() + row, got.begin() + row + kVocabSize) - got.begin() ==
        std::max_element(expected.begin() + row, expected.begin() + row + kVocabSize) -
            expected.begin();
  }
  const double relative = std::sqrt(error_squares / squares);
  ::testing::Test::RecordProperty("relative_error", std::to_string(relative));
  std::printf("relative error %.2e, top-1 agreement %d of %zu\n", relative, num_agreeing, num_rows);
  EXPECT_LT(relative, 1e-2);
  EXPECT_GE(num_agreeing, static_cast<int>(num_rows) - 2);
}

TEST(SyntheticModel, EveryPublishedShapeIsAModel) {
  std::set<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(ShapesFolder())) {
    files.insert(entry.path().stem().string());
  }
  EXPECT_EQ(files, std::set<std::string>(std::begin(kShapeNames), std::end(kShapeNames)));
  for (const std::string name : kShapeNames) {
    SCOPED_TRACE(name);
    const SyntheticModel twin = TwinOf(name, kVocabSize);

    EXPECT_EQ(twin.config.Validate(), Status::Ok());
    const std::vector<int32_t> order = twin.GatherOrder(1, LinearKind::kO);
    EXPECT_EQ(std::set<int32_t>(order.begin(), order.end()).size(),
              static_cast<size_t>(twin.config.q_size()));
  }
  EXPECT_TRUE(TwinOf("qwen2-7b", kVocabSize).has_qkv_bias);
  EXPECT_EQ(TwinOf("mistral-7b", kVocabSize).config.sliding_window, 4096);
  EXPECT_EQ(TwinOf("llama-3.1-8b", kVocabSize).config.rope.type, "llama3");
}

TEST(SyntheticModel, LogitsAreFiniteAndTheReferences) {
  const SyntheticModel twin = TwinOf("smollm2-135m", kVocabSize);

  const Result<std::vector<float>> got = LogitsOf("cpu", twin);
  const Result<std::vector<float>> expected = LogitsOf("reference", twin);

  ASSERT_TRUE(got.ok()) << got.status();
  ASSERT_TRUE(expected.ok()) << expected.status();
  ExpectClose(*got, *expected);
}

class TwinTest : public ::testing::TestWithParam<const char*> {};

TEST_P(TwinTest, TheGpusLogitsAreTheCpus) {
  const Result<Backend> gpu = MakeBackend({.device = "cuda"});
  if (!gpu.ok()) {
    if (std::getenv("COMET_REQUIRE_GPU") != nullptr) FAIL() << gpu.status();
    GTEST_SKIP() << "no GPU answers: " << gpu.status();
  }
  const SyntheticModel twin = TwinOf(GetParam(), kVocabSize);

  const Result<std::vector<float>> got = LogitsOf("cuda", twin);
  if (got.status().code() == StatusCode::kUnimplemented) GTEST_SKIP() << got.status();
  const Result<std::vector<float>> expected = LogitsOf("cpu", twin);

  ASSERT_TRUE(got.ok()) << got.status();
  ASSERT_TRUE(expected.ok()) << expected.status();
  ExpectClose(*got, *expected);
}

std::string NameOfShape(const ::testing::TestParamInfo<const char*>& shape) {
  std::string name = shape.param;
  std::replace(name.begin(), name.end(), '-', '_');
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cuda, TwinTest, ::testing::ValuesIn(kShapeNames), NameOfShape);

}  // namespace
}  // namespace comet
