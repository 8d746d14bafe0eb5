// Each error that the contracts of rope_append and attention list, by the rule that is broken.
#include <gtest/gtest.h>

#include "kernels/ops.h"
#include "tests/kernels/contract_views.h"
#include "tests/kernels/test_backends.h"

namespace comet {
namespace {

TEST(KvFormatContract, ReportsBits) {
  EXPECT_EQ(Validate(KvFormat{32, 4}), Status::Ok());
  EXPECT_TRUE(IsInvalid(Validate(KvFormat{5, 4}), "k_bits is 5"));
  EXPECT_TRUE(IsInvalid(Validate(KvFormat{4, 0}), "v_bits is 0"));
}

class KvContract : public ::testing::Test {
 protected:
  static constexpr int kHeads = 4;
  static constexpr int kKvHeads = 2;
  static constexpr int kHeadDim = 8;

  KvContract() {
    const KvFormat format{4, 4};
    page_bytes_ = static_cast<int>(reference_ops().KvPageBytes(format, kKvHeads, kHeadDim));
    const KvCacheView cache{.pages = ViewOf(DType::kU8, {3, page_bytes_}),
                            .format = format,
                            .num_kv_heads = kKvHeads,
                            .head_dim = kHeadDim};
    const BatchView batch{.query_start = I32({3}),
                          .context_length = I32({2}),
                          .page_table = I32({2, 5}),
                          .num_tokens = 6,
                          .context_length_max = 100,
                          .query_length_max = 4};
    rope_ = {.q_out = F32({6, kHeads * kHeadDim}),
             .cache = cache,
             .qkv = F32({6, (kHeads + 2 * kKvHeads) * kHeadDim}),
             .cos = F32({100, kHeadDim / 2}),
             .sin = F32({100, kHeadDim / 2}),
             .batch = batch,
             .num_heads = kHeads,
             .hadamard = true};
    attention_ = {.out = F32({6, kHeads * kHeadDim}),
                  .q = F32({6, kHeads * kHeadDim}),
                  .cache = cache,
                  .batch = batch,
                  .num_heads = kHeads,
                  .softmax_scale = 0.125f};
  }

  int page_bytes_ = 0;
  RopeAppendArgs rope_;
  AttentionArgs attention_;
};

TEST_F(KvContract, AcceptsItsShapes) {
  EXPECT_EQ(Validate(rope_), Status::Ok());
  EXPECT_EQ(Validate(attention_), Status::Ok());
  EXPECT_EQ(Validate("op", attention_.cache, page_bytes_), Status::Ok());
}

TEST_F(KvContract, ReportsHeads) {
  attention_.num_heads = 3;
  EXPECT_TRUE(IsInvalid(Validate(attention_), "num_heads is 3"));
  rope_.cache.num_kv_heads = 0;
  EXPECT_TRUE(IsInvalid(Validate(rope_), "num_kv_heads is 0"));
  rope_.cache.num_kv_heads = kKvHeads;
  rope_.cache.head_dim = 7;
  EXPECT_TRUE(IsInvalid(Validate(rope_), "head_dim is 7"));
  rope_.cache.head_dim = 6;
  EXPECT_TRUE(IsInvalid(Validate(rope_), "expected"));
}

TEST_F(KvContract, ReportsPages) {
  const KvCacheView good = attention_.cache;
  KvCacheView cache = good;
  cache.pages = ViewOf(DType::kU8, {3, page_bytes_ + 1});
  EXPECT_TRUE(IsInvalid(Validate("op", cache, page_bytes_), "page_bytes is"));
  cache.pages = ViewOf(DType::kI8, {3, page_bytes_});
  EXPECT_TRUE(IsInvalid(Validate("op", cache, page_bytes_), "cache.pages is i8"));
  cache.pages = {static_cast<std::byte*>(good.pages.data()) + 1, DType::kU8, good.pages.shape()};
  EXPECT_TRUE(IsInvalid(Validate("op", cache, page_bytes_), "multiple of 16"));
  cache.format.k_bits = 3;
  attention_.cache = cache;
  EXPECT_TRUE(IsInvalid(Validate(attention_), "k_bits is 3"));
}

TEST_F(KvContract, ReportsTheBatch) {
  const BatchView good = rope_.batch;
  BatchView batch = good;
  batch.query_start = I32({2});
  EXPECT_TRUE(IsInvalid(Validate("op", batch), "query_start is [2]"));
  batch = good;
  batch.context_length = F32({2});
  EXPECT_TRUE(IsInvalid(Validate("op", batch), "context_length is f32"));
  batch = good;
  batch.context_length = {};
  EXPECT_TRUE(IsInvalid(Validate("op", batch), "context_length has rank 0"));
  batch = good;
  batch.page_table = I32({1, 5});
  EXPECT_TRUE(IsInvalid(Validate("op", batch), "page_table is [1, 5]"));
  batch = good;
  batch.num_tokens = -1;
  EXPECT_TRUE(IsInvalid(Validate("op", batch), "num_tokens is -1"));
  batch = good;
  batch.context_length_max = 5 * kPageTokens + 1;
  EXPECT_TRUE(IsInvalid(Validate("op", batch), "context_length_max is 321"));
  batch = good;
  batch.query_length_max = 7;
  EXPECT_TRUE(IsInvalid(Validate("op", batch), "query_length_max is 7"));
  const BatchView empty{.query_start = I32({1}),
                        .context_length = I32({0}),
                        .page_table = I32({0, 5}),
                        .num_tokens = 1};
  EXPECT_TRUE(IsInvalid(Validate("op", empty), "no sequence"));
}

TEST_F(KvContract, ReportsRopeTensors) {
  RopeAppendArgs args = rope_;
  args.qkv = F32({6, 5});
  EXPECT_TRUE(IsInvalid(Validate(args), "qkv is [6, 5]"));
  args = rope_;
  args.q_out = ViewOf(DType::kF16, {6, kHeads * kHeadDim});
  EXPECT_TRUE(IsInvalid(Validate(args), "q_out is f16"));
  args = rope_;
  args.sin = F32({100, 3});
  EXPECT_TRUE(IsInvalid(Validate(args), "sin is [100, 3]"));
  args = rope_;
  args.cos = args.sin = F32({100, 5});
  EXPECT_TRUE(IsInvalid(Validate(args), "rotary_dim is 10"));
  args = rope_;
  args.cos = args.sin = F32({99, 4});
  EXPECT_TRUE(IsInvalid(Validate(args), "cos has 99 positions"));
  args = rope_;
  args.cache.head_dim = 12;
  args.qkv = F32({6, 96});
  args.q_out = F32({6, 48});
  EXPECT_TRUE(IsInvalid(Validate(args), "power of two"));
}

TEST_F(KvContract, ReportsAttentionTensors) {
  AttentionArgs args = attention_;
  args.q = F32({5, kHeads * kHeadDim});
  EXPECT_TRUE(IsInvalid(Validate(args), "q is [5, 32]"));
  args = attention_;
  args.out = ViewOf(DType::kF16, {6, kHeads * kHeadDim});
  EXPECT_TRUE(IsInvalid(Validate(args), "out is f16"));
  for (const float scale : {0.0f, std::numeric_limits<float>::infinity()}) {
    args = attention_;
    args.softmax_scale = scale;
    EXPECT_TRUE(IsInvalid(Validate(args), "softmax_scale is"));
  }
  args = attention_;
  args.window = -1;
  EXPECT_TRUE(IsInvalid(Validate(args), "window is -1"));
}

}  // namespace
}  // namespace comet
