// Two-layer twins of the published shapes, in random weights: what one back end computes is what
// another does.
#include "engine/model/synthetic_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <limits>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/model.h"
#include "engine/quantizer/model_shape.h"
#include "kernels/base/random.h"
#include "kernels/forwarding_ops.h"
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

// Moves what attention gives by as much as its contract lets back ends differ: 1e-3 of the largest
// output. On host memory.
class PerturbedOps final : public ForwardingOps {
 public:
  using ForwardingOps::ForwardingOps;

  Status Attention(const AttentionArgs& args) override {
    constexpr float kTolerance = 1e-3f;
    COMET_RETURN_IF_ERROR(ForwardingOps::Attention(args));
    Half* const out = args.out.as<Half>();
    const int64_t num_values = args.out.shape().num_elements();
    float largest = 0.0f;
    for (int64_t i = 0; i < num_values; ++i)
      largest = std::max(largest, std::fabs(ToFloat(out[i])));
    for (int64_t i = 0; i < num_values; ++i) {
      const float move = kTolerance * largest * random_.NextFloat(-1.0f, 1.0f);
      out[i] = HalfFromFloat(ToFloat(out[i]) + move);
    }
    return Status::Ok();
  }

 private:
  Random random_{17};
};

// Logits of every position of a prompt in two chunks, then of some decoded tokens, row-major.
Result<std::vector<float>> LogitsOf(const std::string& device, const SyntheticModel& twin,
                                    bool is_perturbed = false) {
  COMET_ASSIGN_OR_RETURN(Backend backend, MakeBackend({.device = device}));
  if (is_perturbed) {
    backend.ops = std::make_unique<PerturbedOps>(std::move(backend.ops));
  }
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

// Root mean square of the difference over that of the logits; infinite where one is no number.
double RelativeError(const std::vector<float>& got, const std::vector<float>& expected) {
  double squares = 0;
  double error_squares = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(got[i])) return std::numeric_limits<double>::infinity();
    const double error = got[i] - expected[i];
    squares += expected[i] * expected[i];
    error_squares += error * error;
  }
  return std::sqrt(error_squares / squares);
}

// The logits may differ as far as attention's contract lets them: an output that moves by 1e-3 of
// the largest flips 8-bit codes and 4-bit ones of the cache behind it, which no bound on the logits
// themselves foresees. Everything else is exact between back ends.
void ExpectWithinTheContract(const SyntheticModel& twin, const std::string& device,
                             const std::string& oracle) {
  const Result<std::vector<float>> got = LogitsOf(device, twin);
  const Result<std::vector<float>> expected = LogitsOf(oracle, twin);
  const Result<std::vector<float>> perturbed = LogitsOf(oracle, twin, /*is_perturbed=*/true);
  ASSERT_TRUE(got.ok()) << got.status();
  ASSERT_TRUE(expected.ok()) << expected.status();
  ASSERT_TRUE(perturbed.ok()) << perturbed.status();
  ASSERT_EQ(got->size(), expected->size());

  const double error = RelativeError(*got, *expected);
  const double bound = RelativeError(*perturbed, *expected);

  std::printf("%s: relative error %.2e, bound %.2e\n", device.c_str(), error, bound);
  EXPECT_LE(error, bound);
  EXPECT_LT(bound, 0.2);
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

TEST(SyntheticModel, LogitsAreTheReferences) {
  const SyntheticModel twin = TwinOf("smollm2-135m", kVocabSize);

  ExpectWithinTheContract(twin, "cpu", "reference");
}

class TwinTest : public ::testing::TestWithParam<const char*> {};

TEST_P(TwinTest, TheGpusLogitsAreTheCpus) {
  const Result<Backend> gpu = MakeBackend({.device = "cuda"});
  if (!gpu.ok()) {
    if (std::getenv("COMET_REQUIRE_GPU") != nullptr) FAIL() << gpu.status();
    GTEST_SKIP() << "no GPU answers: " << gpu.status();
  }
  ExpectWithinTheContract(TwinOf(GetParam(), kVocabSize), "cuda", "cpu");
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
