#include "engine/runtime/memory_plan.h"

#include <gtest/gtest.h>

namespace comet {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGB = 1'000'000'000;

// LLaMA-3-70B in 4 bits, for 2,000-token sequences.
constexpr MemoryNeeds k70b{.weights_bytes = 38'400'000'000,
                           .activations_bytes = 2'200'000'000,
                           .kv_page_bytes = 87'040 * kPageTokens};
constexpr ModelLimits k70bLimits{.step_tokens_max = 8192,
                                 .sequences_max = 256,
                                 .logits_rows_max = 256,
                                 .pages_per_sequence_max = 32};
constexpr DeviceMemory kH100{.total_bytes = 85'500'000'000, .free_bytes = 84'900'000'000};

TEST(MemoryPlan, GrantsAGpusMemoryButTheReserve) {
  const Result<MemoryPlan> plan = PlanMemory({}, k70bLimits, k70b, kH100);

  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_GT(plan->num_pages * int64_t{kPageTokens}, 480'000);
  EXPECT_LE(
      plan->weights_bytes + plan->activations_bytes + plan->reserve_bytes + plan->kv_cache_bytes(),
      kH100.free_bytes);
  EXPECT_GT(plan->reserve_bytes, kGB);
}

TEST(MemoryPlan, GrantsNoMoreThanTheRunningSequencesCanUse) {
  ModelLimits limits = k70bLimits;
  limits.sequences_max = 3;

  EXPECT_EQ(PlanMemory({}, limits, k70b, kH100)->num_pages, 3 * 32);
}

TEST(MemoryPlan, GrantsHalfOfAHostsMemory) {
  MemoryNeeds needs = k70b;
  needs.is_host = true;
  ModelLimits limits = k70bLimits;
  limits.sequences_max = 4096;

  const Result<MemoryPlan> plan = PlanMemory({}, limits, needs, kH100);

  ASSERT_TRUE(plan.ok()) << plan.status();
  const int64_t left = kH100.free_bytes - needs.weights_bytes - needs.activations_bytes;
  EXPECT_EQ(plan->num_pages, left / 2 / needs.kv_page_bytes);
  EXPECT_EQ(plan->reserve_bytes, 0);
}

TEST(MemoryPlan, RefusesACardTooSmallWithEveryNumber) {
  const DeviceMemory memory{.total_bytes = 24'000 * kMiB, .free_bytes = 23'500 * kMiB};

  const Status status = PlanMemory({}, k70bLimits, k70b, memory).status();

  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "memory: the model does not fit: 40426 MiB are needed (36622 MiB weights, 2099 MiB "
            "activations, 1536 MiB reserve, 170 MiB KV cache), the device has 23500 MiB free of "
            "24000 MiB: lower --step-tokens-max and --running-sequences-max, or take a larger "
            "device");
}

TEST(MemoryPlan, RefusesAContextBeyondTheCache) {
  ModelLimits limits = k70bLimits;
  limits.pages_per_sequence_max = 8192;  // 524,288 tokens: more than 42.8 GB hold.

  const Status status = PlanMemory({}, limits, k70b, kH100).status();

  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("a context of 524288 tokens takes 43520 MiB"), std::string::npos)
      << status;
}

TEST(MemoryPlan, RefusesAPoolThatHoldsNoSequence) {
  EngineConfig config;
  config.kv_cache.bytes_max = 100 * kMiB;

  const Status status = PlanMemory(config, k70bLimits, k70b, kH100).status();

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "kv_cache: 100 MiB hold no sequence of 2048 tokens, which takes 170 MiB: raise "
            "--kv-cache-bytes or lower --context-length");
}

TEST(MemoryPlan, RefusesAPoolLargerThanTheRest) {
  EngineConfig config;
  config.kv_cache.bytes_max = 60 * kGB;

  EXPECT_EQ(PlanMemory(config, k70bLimits, k70b, kH100).status().code(),
            StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace comet
