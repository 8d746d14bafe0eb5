// What a request gives depends on nothing but the request: not on the batch it runs in, on how its
// prompt is cut into chunks, on preemption (but on a GPU), or on the order of arrival. Real models
// through the real engine under random schedules; tokens, text and the bits of every logprob are
// compared with the run of each request alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "engine/quantizer/quantize_model.h"
#include "kernels/base/random.h"
#include "tests/engine/serving/serving_fixture.h"
#include "tests/engine/test_data.h"
#include "tests/kernels/test_backends.h"

namespace comet {
namespace {

enum class TestModel {
  kRandom,     // Random weights, float.
  kQuantized,  // Random weights, quantised to a comet checkpoint.
  kStories,    // stories260K, float.
};

struct DeterminismCase {
  std::string name;
  std::string device;
  TestModel model = TestModel::kRandom;
  KvFormat kv;
  ActivationMode activations = ActivationMode::kFloat;
  int num_schedules = 0;
  // Where what was decoded is computed anew by another kernel, a preemption may change what
  // follows: such a device is run with pages for all.
  bool has_preemptions = true;
};

std::ostream& operator<<(std::ostream& out, const DeterminismCase& test_case) {
  return out << test_case.name;
}

constexpr int kRequests = 10;
constexpr int kContext = 256;
constexpr std::chrono::seconds kEnough{20};

class DeterminismTest : public testing::TestWithParam<DeterminismCase> {
 protected:
  void SetUp() override {
    if (GetParam().device == "cuda") {
      const Status status = MakeBackend({.device = "cuda"}).status();
      if (!status.ok()) COMET_END_WITHOUT_GPU(status);
    }
    switch (GetParam().model) {
      case TestModel::kRandom: source_ = MakeRandomSource({.context_length_max = kContext}); break;
      case TestModel::kQuantized: MakeCheckpoint(); break;
      case TestModel::kStories: OpenStories(); break;
    }
  }

  void TearDown() override {
    if (checkpoint_ != nullptr) std::filesystem::remove_all(Folder());
  }

  static std::string Folder() { return testing::TempDir() + "/determinism_" + GetParam().name; }

  void OpenStories() {
    const std::string path = TestDataPath("models/stories260K.gguf");
    COMET_REQUIRE_FILE(path);
    Result<std::unique_ptr<FloatSource>> source = FloatSource::Open(path);
    ASSERT_TRUE(source.ok()) << source.status();
    source_ = std::move(source).value();
  }

  // Wide enough for INT4 blocks beside an INT8 one.
  void MakeCheckpoint() {
    source_ = MakeRandomSource({.hidden_size = 256, .context_length_max = kContext});
    Result<Backend> backend = MakeBackend({.device = "cpu"});
    ASSERT_TRUE(backend.ok()) << backend.status();
    QuantizeModelOptions options;
    options.output = Folder();
    options.may_replace = true;
    options.int4_share = 0.5;
    Random random(23);
    for (int i = 0; i < 4000; ++i) {
      options.calibration_text += static_cast<char>('a' + random.NextInt(16));
    }
    const Result<AccuracyReport> report = QuantizeModel(*source_, *backend, options, {});
    ASSERT_TRUE(report.ok()) << report.status();
    Result<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::Open(options.output);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = std::move(checkpoint).value();
    EXPECT_GT(checkpoint_->layer(0).qkv.weights.num_int4_channels, 0);
  }

  std::unique_ptr<Engine> Start(const SchedulerConfig& scheduler, int num_pages) {
    ServingOptions options;
    options.device = GetParam().device;
    options.config.scheduler = scheduler;
    options.num_pages = num_pages;
    options.kv = GetParam().kv;
    options.activations = GetParam().activations;
    Result<std::unique_ptr<Engine>> engine = checkpoint_ != nullptr
                                                 ? StartServing(*checkpoint_, options)
                                                 : StartServing(*source_, options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? std::move(engine).value() : nullptr;
  }

  // Half of them greedy; the others sampled with seeds, and some with penalties.
  Request RandomRequest(Random& random) const {
    const int vocab_size = source_->config().vocab_size;
    Request request;
    const int num_prompt_tokens = 1 + random.NextInt(80);
    for (int i = 0; i < num_prompt_tokens; ++i) {
      request.prompt_ids.push_back(3 + random.NextInt(vocab_size - 3));
    }
    request.output_tokens_max = 20 + random.NextInt(70);
    request.ignore_eos = true;
    request.num_top_logprobs = random.NextInt(4);
    request.priority = random.NextInt(3);
    request.sampling.temperature = 0.0f;
    if (random.NextInt(2) == 0) {
      request.sampling.temperature = 0.8f;
      request.sampling.top_p = 0.95f;
      request.sampling.seed = random.NextBits();
      request.num_choices = 1 + random.NextInt(2);
    }
    if (random.NextInt(3) == 0) {
      request.sampling.repetition_penalty = 1.2f;
      request.sampling.frequency_penalty = 0.3f;
      request.sampling.logit_bias = {{5, 1.5f}, {9, -3.0f}};
    }
    return request;
  }

  std::unique_ptr<FloatSource> source_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

bool HasEqualBits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

void ExpectEqual(const ChoiceOutput& actual, const ChoiceOutput& expected) {
  ASSERT_EQ(actual.finish_reason, FinishReason::kLength) << actual.status;
  ASSERT_EQ(actual.token_ids, expected.token_ids);
  ASSERT_EQ(actual.text, expected.text);
  ASSERT_EQ(actual.logprobs.size(), expected.logprobs.size());
  for (size_t i = 0; i < actual.logprobs.size(); ++i) {
    const TokenLogprob& a = actual.logprobs[i];
    const TokenLogprob& b = expected.logprobs[i];
    ASSERT_TRUE(HasEqualBits(a.logprob, b.logprob)) << "token " << i;
    ASSERT_EQ(a.top.size(), b.top.size());
    for (size_t j = 0; j < a.top.size(); ++j) {
      ASSERT_EQ(a.top[j].first, b.top[j].first) << "token " << i;
      ASSERT_TRUE(HasEqualBits(a.top[j].second, b.top[j].second)) << "token " << i;
    }
  }
}

std::vector<ChoiceOutput> RunOne(Engine& engine, const Request& request) {
  Result<std::unique_ptr<TokenStream>> stream = engine.Submit(request);
  EXPECT_TRUE(stream.ok()) << stream.status();
  return stream.ok() ? ReadAll(**stream, request.num_choices) : std::vector<ChoiceOutput>();
}

TEST_P(DeterminismTest, OutputDependsOnTheRequestAlone) {
  Random random(17);
  std::vector<Request> requests;
  for (int i = 0; i < kRequests; ++i) requests.push_back(RandomRequest(random));
  std::vector<std::vector<ChoiceOutput>> expected;
  {
    // Alone: whole prompts in one step, never a second sequence of another request, pages to spare.
    const auto engine = Start({.step_tokens_max = 512, .running_sequences_max = 2}, 32);
    ASSERT_NE(engine, nullptr);
    for (const Request& request : requests) expected.push_back(RunOne(*engine, request));
    ASSERT_EQ(engine->stats().preemptions_total, 0);
  }

  int64_t preemptions_total = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int schedule = 0; schedule < GetParam().num_schedules; ++schedule) {
    SCOPED_TRACE(schedule);
    // Under a sanitizer a schedule takes a hundred times as long.
    if (schedule > 0 && preemptions_total >= (GetParam().has_preemptions ? 1 : 0) &&
        std::chrono::steady_clock::now() - start > kEnough)
      break;
    SchedulerConfig config;
    config.running_sequences_max = 3 + random.NextInt(12);
    config.step_tokens_max = config.running_sequences_max + random.NextInt(50);
    config.aging_ms = 1 + random.NextInt(50);
    const auto engine = Start(config, GetParam().has_preemptions ? 4 + random.NextInt(2) : 64);
    ASSERT_NE(engine, nullptr);
    std::vector<int> order(kRequests);
    for (int i = 0; i < kRequests; ++i) order[static_cast<size_t>(i)] = i;
    for (int i = kRequests - 1; i > 0; --i) {
      std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(random.NextInt(i + 1))]);
    }

    // Readers of their own, so that arrivals fall into each other's steps.
    std::vector<std::vector<ChoiceOutput>> actual(kRequests);
    std::vector<std::thread> readers;
    for (const int i : order) {
      readers.emplace_back([&, i] {
        actual[static_cast<size_t>(i)] = RunOne(*engine, requests[static_cast<size_t>(i)]);
      });
    }
    for (std::thread& reader : readers) reader.join();

    for (size_t i = 0; i < kRequests; ++i) {
      SCOPED_TRACE(i);
      ASSERT_EQ(actual[i].size(), expected[i].size());
      for (size_t j = 0; j < actual[i].size(); ++j) {
        ExpectEqual(actual[i][j], expected[i][j]);
        if (HasFatalFailure()) return;
      }
    }
    preemptions_total += engine->stats().preemptions_total;
    EXPECT_EQ(engine->stats().num_pages_used, 0);
  }
  EXPECT_EQ(preemptions_total > 0, GetParam().has_preemptions) << "of the schedules";
  RecordProperty("preemptions", static_cast<int>(preemptions_total));
}

INSTANTIATE_TEST_SUITE_P(Models, DeterminismTest,
                         testing::Values(DeterminismCase{.name = "RandomOnReference",
                                                         .device = "reference",
                                                         .model = TestModel::kRandom,
                                                         .kv = {4, 4},
                                                         .num_schedules = 3},
                                         DeterminismCase{.name = "RandomOnCpu",
                                                         .device = "cpu",
                                                         .model = TestModel::kRandom,
                                                         .kv = {4, 4},
                                                         .num_schedules = 40},
                                         DeterminismCase{.name = "RandomAhead",
                                                         .device = "ahead",
                                                         .model = TestModel::kRandom,
                                                         .kv = {4, 4},
                                                         .num_schedules = 40},
                                         DeterminismCase{.name = "StoriesOnCpu",
                                                         .device = "cpu",
                                                         .model = TestModel::kStories,
                                                         .kv = {16, 16},
                                                         .num_schedules = 20},
                                         DeterminismCase{.name = "StoriesKv4OnCpu",
                                                         .device = "cpu",
                                                         .model = TestModel::kStories,
                                                         .kv = {4, 4},
                                                         .num_schedules = 20},
                                         DeterminismCase{.name = "Quantized8OnCpu",
                                                         .device = "cpu",
                                                         .model = TestModel::kQuantized,
                                                         .kv = {4, 4},
                                                         .activations = ActivationMode::kInt8,
                                                         .num_schedules = 20},
                                         DeterminismCase{.name = "QuantizedOnCuda",
                                                         .device = "cuda",
                                                         .model = TestModel::kQuantized,
                                                         .kv = {4, 4},
                                                         .activations = ActivationMode::kInt8,
                                                         .num_schedules = 20,
                                                         .has_preemptions = false},
                                         DeterminismCase{.name = "QuantizedMixedOnCpu",
                                                         .device = "cpu",
                                                         .model = TestModel::kQuantized,
                                                         .kv = {8, 4},
                                                         .activations = ActivationMode::kMixed,
                                                         .num_schedules = 20}),
                         [](const testing::TestParamInfo<DeterminismCase>& instance) {
                           return instance.param.name;
                         });

}  // namespace
}  // namespace comet
