// The default model's checkpoint on a GPU beside the CPU back end, fed the same real text: the two
// differ in attention's arithmetic alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <numeric>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "engine/evaluation/log_likelihood.h"
#include "engine/model/model_source.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/make_backend.h"
#include "tests/engine/test_data.h"
#include "tests/kernels/test_backends.h"

namespace comet {
namespace {

constexpr int kWindowTokens = 1024;
constexpr int kChunkTokens = 256;
constexpr int kNumWindows = 24;
constexpr double kTopAgreementMin = 0.995;
constexpr double kPerplexityDifferenceMax = 0.002;
constexpr double kDifferenceQuantile = 0.999;

constexpr ModelLimits kLimits{.step_tokens_max = kChunkTokens,
                              .sequences_max = 1,
                              .logits_rows_max = kChunkTokens,
                              .pages_per_sequence_max = kWindowTokens / kPageTokens,
                              .num_pages = kWindowTokens / kPageTokens};

struct LoadedModel {
  Backend backend;
  std::unique_ptr<Model> model;
  std::vector<float> logits;  // Of the last chunk, on the host.

  // `window`'s tokens [first, first + kChunkTokens), behind those of the calls before.
  Status RunChunk(std::span<const int> window, int first) {
    const int query_start[] = {0, kChunkTokens};
    const int context_length = first + kChunkTokens;
    std::vector<int> pages(static_cast<size_t>(kLimits.pages_per_sequence_max));
    std::iota(pages.begin(), pages.end(), 0);
    std::vector<int> rows(kChunkTokens);
    std::iota(rows.begin(), rows.end(), 0);
    COMET_ASSIGN_OR_RETURN(
        const TensorView view,
        model->Forward({.token_ids = window.subspan(static_cast<size_t>(first), kChunkTokens),
                        .query_start = query_start,
                        .context_length = {&context_length, 1},
                        .page_table = pages,
                        .logits_rows = rows}));
    logits.resize(static_cast<size_t>(view.shape().num_elements()));
    return backend.device->CopyToHost(logits.data(), view.data(),
                                      static_cast<int64_t>(logits.size() * sizeof(float)));
  }
};

Result<LoadedModel> Load(ModelSource& source, Backend backend) {
  LoadedModel loaded{.backend = std::move(backend)};
  COMET_ASSIGN_OR_RETURN(const Precision precision, source.ChoosePrecision("auto", "auto"));
  COMET_ASSIGN_OR_RETURN(loaded.model, source.Load(loaded.backend, precision, kLimits));
  return loaded;
}

// What one position's logits say on both devices.
struct Comparison {
  std::vector<float> differences;  // Largest of a position's logits.
  std::vector<float> lost_logits;  // Of disagreeing positions: what the GPU's choice lacks.
  double nll[2] = {};              // CPU, GPU
  double nll_difference_squares = 0.0;

  void Add(std::span<const float> cpu, std::span<const float> gpu, int next_id) {
    float largest = 0.0f;
    for (size_t i = 0; i < cpu.size(); ++i) largest = std::max(largest, std::abs(cpu[i] - gpu[i]));
    differences.push_back(largest);
    const auto chosen = [](std::span<const float> row) {
      return static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
    };
    const size_t cpu_id = chosen(cpu);
    const size_t gpu_id = chosen(gpu);
    if (cpu_id != gpu_id) lost_logits.push_back(cpu[cpu_id] - cpu[gpu_id]);
    const double cpu_nll = -LogLikelihood(cpu, next_id);
    const double gpu_nll = -LogLikelihood(gpu, next_id);
    nll[0] += cpu_nll;
    nll[1] += gpu_nll;
    nll_difference_squares += (gpu_nll - cpu_nll) * (gpu_nll - cpu_nll);
  }
};

TEST(CudaAgreementTest, SmolLm2ChoosesTheCpusTokensAtItsPerplexity) {
  Result<Backend> cuda = MakeBackend({.device = "cuda"});
  if (!cuda.ok()) COMET_END_WITHOUT_GPU(cuda.status());
  const std::string checkpoint = DefaultCheckpointPath();
  const std::string text_path = TestDataPath("text/wikitext-2-v1.valid.tokens.txt");
  COMET_REQUIRE_FILE(checkpoint);
  COMET_REQUIRE_FILE(text_path);
  Result<ModelSource> source = ModelSource::Open(checkpoint);
  ASSERT_TRUE(source.ok()) << source.status();
  Result<LoadedModel> cpu = Load(*source, MakeBackend({.device = "cpu"}).value());
  Result<LoadedModel> gpu = Load(*source, std::move(cuda).value());
  ASSERT_TRUE(cpu.ok() && gpu.ok()) << cpu.status() << gpu.status();
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::Create(source->vocabulary()).value();
  std::stringstream text;
  text << std::ifstream(text_path).rdbuf();
  const std::vector<int> ids = tokenizer->Encode(text.str(), {}).value();
  ASSERT_GE(ids.size(), size_t{kNumWindows} * kWindowTokens);

  Comparison comparison;
  const size_t vocab_size = static_cast<size_t>(source->config().vocab_size);
  for (int w = 0; w < kNumWindows; ++w) {
    const auto window =
        std::span(ids).subspan(static_cast<size_t>(w) * kWindowTokens, kWindowTokens);
    for (int first = 0; first < kWindowTokens; first += kChunkTokens) {
      ASSERT_EQ(cpu->RunChunk(window, first), Status::Ok());
      ASSERT_EQ(gpu->RunChunk(window, first), Status::Ok());
      const int num_predictions = std::min(kChunkTokens, kWindowTokens - 1 - first);
      for (int i = 0; i < num_predictions; ++i) {
        const auto row = [&](const LoadedModel& loaded) {
          return std::span(loaded.logits).subspan(static_cast<size_t>(i) * vocab_size, vocab_size);
        };
        comparison.Add(row(*cpu), row(*gpu), window[static_cast<size_t>(first + i + 1)]);
      }
    }
  }

  std::vector<float>& differences = comparison.differences;
  const size_t num_positions = differences.size();
  const auto quantile =
      differences.begin() +
      static_cast<ptrdiff_t>(kDifferenceQuantile * static_cast<double>(num_positions));
  std::nth_element(differences.begin(), quantile, differences.end());
  const double count = static_cast<double>(num_positions);
  const double agreement = 1.0 - static_cast<double>(comparison.lost_logits.size()) / count;
  const double nll_difference = (comparison.nll[1] - comparison.nll[0]) / count;
  const double nll_deviation =
      std::sqrt(comparison.nll_difference_squares / count - nll_difference * nll_difference);
  std::printf(
      "%zu positions: top-1 agreement %.3f %%, p99.9 logit difference %.3f; perplexity %.4f on the "
      "CPU, %.4f on the GPU (%+.3f %%, standard error %.3f %%)\n",
      num_positions, 100.0 * agreement, *quantile, std::exp(comparison.nll[0] / count),
      std::exp(comparison.nll[1] / count), 100.0 * std::expm1(nll_difference),
      100.0 * nll_deviation / std::sqrt(count));

  EXPECT_GE(agreement, kTopAgreementMin);
  for (const float lost : comparison.lost_logits) EXPECT_LE(lost, *quantile);
  EXPECT_LE(std::abs(std::expm1(nll_difference)), kPerplexityDifferenceMax);
}

}  // namespace
}  // namespace comet
