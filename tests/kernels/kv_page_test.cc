#include "kernels/cpu/kv_page.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/base/random.h"
#include "kernels/cpu/isa.h"
#include "kernels/reference/kv_page.h"

namespace comet::cpu {
namespace {

// One page of one KV head in both back ends' layouts, and what the attention kernel reads of it.
class PageOfBoth {
 public:
  PageOfBoth(const KvFormat& format, int head_dim)
      : layout_(MakeKvHeadLayout(format, head_dim)),
        page_(static_cast<size_t>(layout_.head_bytes), 0xcd),
        reference_page_(static_cast<size_t>(reference::PageBytes(format, 1, head_dim)), 0xcd),
        cache_{.pages = TensorView(reference_page_.data(), DType::kU8,
                                   {1, static_cast<int>(reference_page_.size())}),
               .format = format,
               .num_kv_heads = 1,
               .head_dim = head_dim} {}

  void Store(int token_idx, const std::vector<float>& key, const std::vector<float>& value) {
    std::vector<uint8_t> codes(key.size());
    StoreKey(layout_, page_.data(), token_idx, key.data(), codes.data());
    StoreValue(layout_, page_.data(), token_idx, value.data(), codes.data());
    reference::WriteKvRow(cache_, {.side = reference::KvSide::kKey, .token_idx = token_idx}, key);
    reference::WriteKvRow(cache_, {.side = reference::KvSide::kValue, .token_idx = token_idx},
                          value);
  }

  void ExpectKernelsReadTheReferencesNumbers(const KernelTable& kernels) {
    const int head_dim = layout_.head_dim;
    const uint8_t* heads[] = {page_.data()};
    const int32_t num_visible[] = {kPageTokens};
    const auto buffer = [](int count) { return std::vector<float>(static_cast<size_t>(count)); };
    const std::vector<float> q = buffer(head_dim);
    std::vector<float> out = buffer(layout_.value_width);
    std::vector<float> keys = buffer(head_dim * kGroupTokens);
    std::vector<float> values = buffer(layout_.value_width * kGroupTokens);
    std::vector<float> logits = buffer(kRowTile * kGroupTokens);
    std::vector<float> group_out = buffer(kRowTile * layout_.value_width);
    float max = 0.0f;
    float sum = 0.0f;

    kernels.attend({.layout = &layout_,
                    .heads = heads,
                    .q = q.data(),
                    .num_visible = num_visible,
                    .num_rows = 1,
                    .softmax_scale = 1.0f,
                    .out = out.data(),
                    .keys = keys.data(),
                    .values = values.data(),
                    .logits = logits.data(),
                    .group_out = group_out.data(),
                    .max = &max,
                    .sum = &sum});

    std::vector<float> row = buffer(head_dim);
    for (int p = 0; p < kPageTokens; ++p) {
      reference::ReadKvRow(cache_, {.side = reference::KvSide::kKey, .token_idx = p}, row);
      for (int d = 0; d < head_dim; ++d) {
        ASSERT_EQ(keys[static_cast<size_t>(d * kGroupTokens + p)], row[static_cast<size_t>(d)]);
      }
      reference::ReadKvRow(cache_, {.side = reference::KvSide::kValue, .token_idx = p}, row);
      for (int d = 0; d < head_dim; ++d) {
        ASSERT_EQ(values[static_cast<size_t>(p * layout_.value_width + d)],
                  row[static_cast<size_t>(d)]);
      }
    }
  }

 private:
  KvHeadLayout layout_;
  std::vector<uint8_t> page_;
  std::vector<uint8_t> reference_page_;
  KvCacheView cache_;
};

TEST(KvPage, KernelsReadTheReferencesNumbers) {
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512Vnni}) {
    if (!IsSupported(isa)) continue;
    for (const int head_dim : {2, 8, 64, 80, 128}) {
      for (const int bits : {4, 8, 16, 32}) {
        SCOPED_TRACE(testing::Message() << ToString(isa) << " " << head_dim << " " << bits);
        PageOfBoth page({bits, bits}, head_dim);
        Random random(61);
        for (int token_idx = 0; token_idx < kPageTokens; ++token_idx) {
          std::vector<float> key(static_cast<size_t>(head_dim));
          std::vector<float> value(static_cast<size_t>(head_dim));
          // Every ninth row is constant: its s is 0. Some are so small that s is subnormal.
          const float scale = token_idx % 9 == 4 ? 0.0f : token_idx % 9 == 5 ? 1e-6f : 3.0f;
          for (float& x : key) x = 1.5f + scale * random.NextNormal();
          for (float& x : value) x = -2.0f + scale * random.NextNormal();
          page.Store(token_idx, key, value);
        }

        page.ExpectKernelsReadTheReferencesNumbers(KernelsOf(isa));
      }
    }
  }
}

}  // namespace
}  // namespace comet::cpu
