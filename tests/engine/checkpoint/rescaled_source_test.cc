#include "engine/loader/rescaled_source.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/engine/test_data.h"

namespace comet {
namespace {

class RescaledSourceTest : public testing::Test {
 protected:
  std::unique_ptr<FloatSource> Open() {
    Result<std::unique_ptr<FloatSource>> source =
        FloatSource::Open(TestDataPath("models/stories260K.gguf"));
    EXPECT_TRUE(source.ok()) << source.status();
    return std::move(source).value();
  }
  void SetUp() override { COMET_REQUIRE_FILE(TestDataPath("models/stories260K.gguf")); }
};

// What a channel passes on: the weight that makes it times one that reads it.
float Fold(float outer, float inner) { return outer * inner; }

TEST_F(RescaledSourceTest, ProductsOfNeighboursStay) {
  const std::unique_ptr<FloatSource> plain = Open();
  const std::unique_ptr<FloatSource> rescaled = MakeRescaledSource(Open(), 7);
  const ModelConfig& config = plain->config();
  const FloatLayer a = plain->ReadLayer(2).value();
  const FloatLayer b = rescaled->ReadLayer(2).value();

  const size_t hidden = static_cast<size_t>(config.hidden_size);
  const size_t ffn = static_cast<size_t>(config.ffn_size);
  const auto expect_same = [](float x, float y) {
    EXPECT_NEAR(x, y, 1e-5f * std::abs(y) + 1e-12f);
  };
  double moved = 0.0;
  for (size_t k = 0; k < hidden; ++k) {
    expect_same(Fold(b.input_norm[k], b.qkv[3 * hidden + k]),
                Fold(a.input_norm[k], a.qkv[3 * hidden + k]));
    expect_same(Fold(b.post_attention_norm[k], b.gate_up[5 * hidden + k]),
                Fold(a.post_attention_norm[k], a.gate_up[5 * hidden + k]));
    moved += std::abs(std::log(b.input_norm[k] / a.input_norm[k]));
  }
  EXPECT_GT(moved / static_cast<double>(hidden), 0.1);
  for (size_t j = 0; j < ffn; ++j) {
    const size_t up = (ffn + j) * hidden;
    expect_same(b.post_attention_norm[1] * b.gate_up[up + 1] * b.down[j],
                a.post_attention_norm[1] * a.gate_up[up + 1] * a.down[j]);
  }
  const size_t q_size = static_cast<size_t>(config.q_size());
  const size_t dim = static_cast<size_t>(config.head_dim);
  const size_t group = static_cast<size_t>(config.num_heads / config.num_kv_heads);
  const size_t first_v = q_size + static_cast<size_t>(config.kv_size());
  for (size_t channel = 0; channel < q_size; ++channel) {
    const size_t v = (first_v + channel / dim / group * dim + channel % dim) * hidden;
    expect_same(b.input_norm[2] * b.qkv[v + 2] * b.o[channel],
                a.input_norm[2] * a.qkv[v + 2] * a.o[channel]);
  }
}

TEST_F(RescaledSourceTest, SeedAndLayerChooseTheFactors) {
  const std::unique_ptr<FloatSource> one = MakeRescaledSource(Open(), 1);
  const std::unique_ptr<FloatSource> again = MakeRescaledSource(Open(), 1);
  const std::unique_ptr<FloatSource> other = MakeRescaledSource(Open(), 2);
  ASSERT_TRUE(one->ReadLayer(3).ok());  // Reading order does not matter.

  EXPECT_EQ(one->ReadLayer(0)->down, again->ReadLayer(0)->down);
  EXPECT_NE(one->ReadLayer(0)->down, other->ReadLayer(0)->down);
}

}  // namespace
}  // namespace comet
