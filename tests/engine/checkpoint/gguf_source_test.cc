#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>
#include <span>

#include "engine/loader/float_source.h"
#include "engine/loader/gguf_config.h"
#include "engine/loader/gguf_file.h"
#include "engine/loader/gguf_tensor_types.h"
#include "engine/loader/gguf_vocabulary.h"
#include "tests/engine/checkpoint/test_files.h"
#include "tests/engine/test_data.h"

namespace comet {
namespace {

// Expected sums and values in this file were computed from the same files with the Python package
// `gguf` (dequantised to fp32, summed in fp64).

struct Sums {
  double sum = 0;
  double sum_sq = 0;
};

Sums SumsOf(std::span<const float> values) {
  Sums sums;
  for (const float value : values) {
    sums.sum += value;
    sums.sum_sq += double{value} * double{value};
  }
  return sums;
}

void ExpectSums(std::span<const float> values, double sum, double sum_sq) {
  const Sums sums = SumsOf(values);
  EXPECT_NEAR(sums.sum, sum, 1e-9 * sum_sq);
  EXPECT_NEAR(sums.sum_sq, sum_sq, 1e-9 * sum_sq);
}

std::unique_ptr<FloatSource> OpenSource(const std::string& path) {
  Result<std::unique_ptr<FloatSource>> source = FloatSource::Open(path);
  EXPECT_TRUE(source.ok()) << source.status();
  return source.ok() ? std::move(source).value() : nullptr;
}

class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = DefaultModelPath();
    COMET_REQUIRE_FILE(path);
    source_ = OpenSource(path);
    ASSERT_NE(source_, nullptr);
  }
  std::unique_ptr<FloatSource> source_;
};

class Stories260K : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = TestDataPath("models/stories260K.gguf");
    COMET_REQUIRE_FILE(path);
    source_ = OpenSource(path);
    ASSERT_NE(source_, nullptr);
  }
  std::unique_ptr<FloatSource> source_;
};

TEST_F(SmolLm2, HasItsShape) {
  const ModelConfig& config = source_->config();

  EXPECT_EQ(config.hidden_size, 576);
  EXPECT_EQ(config.num_layers, 30);
  EXPECT_EQ(config.num_heads, 9);
  EXPECT_EQ(config.num_kv_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.rotary_dim, 64);
  EXPECT_EQ(config.ffn_size, 1536);
  EXPECT_EQ(config.vocab_size, 49152);
  EXPECT_EQ(config.context_length_max, 8192);
  EXPECT_EQ(config.rope.theta, 100000.0);
  EXPECT_EQ(config.rms_norm_epsilon, 1e-5f);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(config.bos_id, 1);
  EXPECT_EQ(config.eos_ids, std::vector<int>{2});
}

TEST_F(SmolLm2, HasItsVocabularyAndTemplate) {
  const Vocabulary& vocabulary = source_->vocabulary();

  EXPECT_EQ(vocabulary.kind, TokenizerKind::kByteLevelBpe);
  EXPECT_EQ(vocabulary.pre_tokenizer, "smollm");
  EXPECT_EQ(vocabulary.pieces.size(), 49152u);
  EXPECT_EQ(vocabulary.merges.size(), 48900u);
  EXPECT_EQ(vocabulary.merges[2], "i n");
  EXPECT_EQ(vocabulary.pieces[2], "<|im_end|>");
  EXPECT_EQ(vocabulary.types[2], TokenType::kControl);
  EXPECT_EQ(vocabulary.eos_id, 2);
  EXPECT_EQ(vocabulary.unknown_id, 0);
  EXPECT_FALSE(vocabulary.add_bos);
  EXPECT_NE(source_->chat_templates().at(0).source.find("<|im_start|>"), std::string::npos);
}

TEST_F(SmolLm2, LayerEqualsPythonsReading) {
  const Result<FloatLayer> layer = source_->ReadLayer(7);
  ASSERT_TRUE(layer.ok()) << layer.status();
  const std::span<const float> qkv(layer->qkv);

  ExpectSums(qkv.first(576 * 576), -26.595428466796875, 12797.074610548298);
  ExpectSums(qkv.subspan(576 * 576, 192 * 576), -47.49678039550781, 4539.719853340415);
  ExpectSums(qkv.last(192 * 576), 61.694580078125, 3214.9204137688503);
  ExpectSums(layer->o, 36.52758026123047, 8735.245821345656);
  ExpectSums(std::span(layer->gate_up).first(1536 * 576), -814.0233688354492, 32693.677012337313);
  ExpectSums(std::span(layer->gate_up).last(1536 * 576), -318.695556640625, 32843.98513005907);
  ExpectSums(layer->down, -198.9853515625, 31404.29622159945);
  ExpectSums(layer->input_norm, 174.502197265625, 54.758022367954254);
  ExpectSums(layer->post_attention_norm, 119.31790542602539, 26.30221574685129);
  EXPECT_TRUE(layer->qkv_bias.empty());
}

TEST_F(SmolLm2, RotaryRowsAreInSplitHalfOrder) {
  const Result<FloatLayer> layer = source_->ReadLayer(7);
  ASSERT_TRUE(layer.ok()) << layer.status();
  const auto q = [&](int row) { return layer->qkv[static_cast<size_t>(row * 576 + 5)]; };
  const auto k = [&](int row) { return layer->qkv[static_cast<size_t>((576 + row) * 576 + 5)]; };

  // Head 1 of q and k: rows 0, 2 and 3 of the file are rows 0, 1 and 32 + 1 of the head.
  EXPECT_EQ(q(64), -0.09149169921875f);
  EXPECT_EQ(q(64 + 1), -0.02728271484375f);
  EXPECT_EQ(q(64 + 33), 0.0943603515625f);
  EXPECT_EQ(k(64 + 1), -0.28515625f);
  EXPECT_EQ(k(64 + 33), 0.035552978515625f);
}

TEST_F(SmolLm2, EmbeddingEqualsPythonsReadingAndIsTheHead) {
  const Result<std::vector<float>> embedding = source_->ReadEmbedding();
  ASSERT_TRUE(embedding.ok()) << embedding.status();
  const Result<std::vector<float>> norm = source_->ReadFinalNorm();
  ASSERT_TRUE(norm.ok()) << norm.status();

  ExpectSums(*embedding, -15353.04449415207, 520415.71544763993);
  ExpectSums(*norm, 1038.33203125, 1921.7355499267578);
  EXPECT_EQ(source_->ReadLmHead().status().code(), StatusCode::kNotFound);
}

TEST_F(Stories260K, HasItsShapeAndDefaults) {
  const ModelConfig& config = source_->config();

  EXPECT_EQ(config.hidden_size, 64);
  EXPECT_EQ(config.num_layers, 5);
  EXPECT_EQ(config.num_heads, 8);
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.rotary_dim, 8);
  EXPECT_EQ(config.ffn_size, 172);
  EXPECT_EQ(config.vocab_size, 512);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_FALSE(config.tied_embeddings);
}

TEST_F(Stories260K, VocabularyHasSentencePieceDefaults) {
  const Vocabulary& vocabulary = source_->vocabulary();

  EXPECT_EQ(vocabulary.kind, TokenizerKind::kSentencePiece);
  EXPECT_EQ(vocabulary.pieces.size(), 512u);
  EXPECT_EQ(vocabulary.scores.size(), 512u);
  EXPECT_EQ(vocabulary.types[3], TokenType::kByte);
  EXPECT_EQ(vocabulary.bos_id, 1);
  EXPECT_EQ(vocabulary.eos_id, 2);
  EXPECT_EQ(vocabulary.padding_id, -1);
  EXPECT_TRUE(vocabulary.add_bos);
  EXPECT_FALSE(vocabulary.add_eos);
  EXPECT_TRUE(vocabulary.add_space_prefix);
}

TEST_F(Stories260K, LayerEqualsPythonsReading) {
  const Result<FloatLayer> layer = source_->ReadLayer(2);
  ASSERT_TRUE(layer.ok()) << layer.status();
  const std::span<const float> qkv(layer->qkv);

  ExpectSums(qkv.first(64 * 64), 4.646763495973573, 182.76113486419894);
  ExpectSums(qkv.subspan(64 * 64, 32 * 64), -2.161847283903626, 68.45122413690913);
  ExpectSums(qkv.last(32 * 64), 1.7817950230100905, 7.6380698589103195);
  ExpectSums(layer->down, -4.021498598276594, 172.34614632298906);
  EXPECT_EQ(qkv[(8 + 1) * 64 + 5], -0.16986195743083954f);
  EXPECT_EQ(qkv[(8 + 5) * 64 + 5], -0.017470501363277435f);
  EXPECT_EQ(qkv[(64 + 8 + 1) * 64 + 5], -0.22974394261837006f);
}

TEST_F(Stories260K, HeadIsApartFromTheEmbedding) {
  const Result<std::vector<float>> embedding = source_->ReadEmbedding();
  const Result<std::vector<float>> head = source_->ReadLmHead();
  ASSERT_TRUE(embedding.ok() && head.ok());

  ExpectSums(*embedding, -752.3677446640068, 3124.5291472369654);
  EXPECT_EQ(head->size(), 512u * 64u);
}

TEST(GgufSource, NamesAnArchitectureItCannotRun) {
  const TempFolder folder;
  WriteBytes(folder.PathOf("m"),
             GgufBuilder().Head(0, 1).String("general.architecture", "gemma3").bytes());

  const Status status = FloatSource::Open(folder.PathOf("m")).status();

  EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
  EXPECT_NE(status.message().find("gemma3"), std::string::npos) << status;
}

TEST(GgufTensorTypes, DequantizeByTheirFormulas) {
  // d = 0.5 (0x3800), m = -1 (0xbc00); byte i holds low nibble i and high nibble 15 - i.
  std::string nibbles;
  for (int i = 0; i < 16; ++i) nibbles += static_cast<char>(i | ((15 - i) << 4));
  const auto run = [](GgufTensorType type, const std::string& bytes) {
    std::vector<float> out(32);
    Dequantize(type, std::as_bytes(std::span(bytes)), out);
    return out;
  };
  const std::vector<float> q4_1 =
      run(GgufTensorType::kQ4_1, std::string("\x00\x38\x00\xbc", 4) + nibbles);
  const std::vector<float> q4_0 = run(GgufTensorType::kQ4_0, std::string("\x00\x38", 2) + nibbles);
  const std::vector<float> q8_0 =
      run(GgufTensorType::kQ8_0, std::string("\x00\x38", 2) + std::string(31, '\x03') + "\x80");

  for (int i = 0; i < 16; ++i) {
    const size_t low = static_cast<size_t>(i);
    EXPECT_EQ(q4_1[low], 0.5f * static_cast<float>(i) - 1.0f);
    EXPECT_EQ(q4_1[low + 16], 0.5f * static_cast<float>(15 - i) - 1.0f);
    EXPECT_EQ(q4_0[low], 0.5f * static_cast<float>(i - 8));
    EXPECT_EQ(q4_0[low + 16], 0.5f * static_cast<float>(7 - i));
  }
  EXPECT_EQ(q8_0[0], 1.5f);
  EXPECT_EQ(q8_0[31], -64.0f);
}

TEST(GgufTensorTypes, PlainFloatsKeepTheirValues) {
  const std::string half("\x00\x3c\x00\xc0", 4);
  const std::string bfloat("\x80\x3f\x00\xc0", 4);
  std::vector<float> out(2);

  Dequantize(GgufTensorType::kF16, std::as_bytes(std::span(half)), out);
  EXPECT_EQ(out, (std::vector<float>{1.0f, -2.0f}));
  Dequantize(GgufTensorType::kBf16, std::as_bytes(std::span(bfloat)), out);
  EXPECT_EQ(out, (std::vector<float>{1.0f, -2.0f}));
}

// Of a file of one small layer's keys; `change` adds what the test is about.
Result<GgufConfig> ConfigOf(const std::function<GgufBuilder&(GgufBuilder&)>& change,
                            int num_changes) {
  GgufBuilder builder;
  builder.Head(1, static_cast<uint64_t>(7 + num_changes))
      .String("general.architecture", "llama")
      .String("tokenizer.ggml.model", "gpt2")
      .Int("llama.embedding_length", 64)
      .Int("llama.block_count", 1)
      .Int("llama.feed_forward_length", 64)
      .Int("llama.context_length", 64)
      .Int("llama.attention.head_count", 2);
  change(builder).Tensor("token_embd.weight", {64, 10}, 0, 0).Data(64 * 10 * 4);
  const TempFolder folder;
  WriteBytes(folder.PathOf("m"), builder.bytes());
  const Result<GgufFile> file = GgufFile::Open(folder.PathOf("m"));
  return file.ok() ? ReadGgufConfig(*file) : file.status();
}

TEST(GgufConfig, IsHeldToTheLimitsOfEverySource) {
  const auto message_of = [](std::string_view key, float value) {
    const Status status =
        ConfigOf([&](GgufBuilder& b) -> GgufBuilder& { return b.Float(key, value); }, 1).status();
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << key;
    return status.message();
  };

  const Status plain = ConfigOf([](GgufBuilder& b) -> GgufBuilder& { return b; }, 0).status();
  EXPECT_TRUE(plain.ok()) << plain;
  EXPECT_NE(message_of("llama.rope.freq_base", 1e13f).find("rope.theta"), std::string::npos);
  EXPECT_NE(message_of("llama.rope.freq_base", std::nanf("")).find("rope.theta"),
            std::string::npos);
  EXPECT_NE(message_of("llama.rope.scaling.factor", 1e7f).find("rope.factor"), std::string::npos);
  EXPECT_NE(message_of("llama.attention.layer_norm_rms_epsilon", 1.0f).find("rms_norm_epsilon"),
            std::string::npos);
}

// A YaRN of factor 4 over 16 tokens, and one key more.
Result<GgufConfig> YarnConfigOf(std::string_view key, float value) {
  return ConfigOf(
      [&](GgufBuilder& b) -> GgufBuilder& {
        return b.String("llama.rope.scaling.type", "yarn")
            .Float("llama.rope.scaling.factor", 4.0f)
            .Int("llama.rope.scaling.original_context_length", 16)
            .Float(key, value);
      },
      4);
}

TEST(GgufConfig, MultipliesYarnsAttentionFactors) {
  const double scale = 1.0 + 0.1 * std::log(4.0);
  for (const char* key :
       {"llama.rope.scaling.attn_factor", "llama.rope.scaling.yarn_attn_factor"}) {
    const Result<GgufConfig> config = YarnConfigOf(key, 0.5f);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_DOUBLE_EQ(config->model.rope.attention_factor, 0.5 * scale) << key;
  }
}

TEST(GgufConfig, RefusesAnotherExtrapolationOfYarn) {
  constexpr std::string_view kKey = "llama.rope.scaling.yarn_ext_factor";
  const Result<GgufConfig> plain = YarnConfigOf(kKey, 1.0f);
  EXPECT_TRUE(plain.ok()) << plain.status();

  const Status status = YarnConfigOf(kKey, 0.5f).status();

  EXPECT_EQ(status.code(), StatusCode::kUnimplemented) << status;
  EXPECT_NE(status.message().find("yarn_ext_factor: is 0.5"), std::string::npos) << status;
}

void ExpectVocabularyRoundTrips(const Vocabulary& vocabulary) {
  const TempFolder folder;
  WriteBytes(folder.PathOf("v"), VocabularyGguf(vocabulary));
  const Result<GgufFile> file = GgufFile::Open(folder.PathOf("v"));
  ASSERT_TRUE(file.ok()) << file.status();

  const Result<Vocabulary> copy = ReadVocabulary(*file);

  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(copy->kind, vocabulary.kind);
  EXPECT_EQ(copy->pre_tokenizer, vocabulary.pre_tokenizer);
  EXPECT_EQ(copy->pieces, vocabulary.pieces);
  EXPECT_EQ(copy->scores, vocabulary.scores);
  EXPECT_EQ(copy->types, vocabulary.types);
  EXPECT_EQ(copy->merges, vocabulary.merges);
  EXPECT_EQ(copy->bos_id, vocabulary.bos_id);
  EXPECT_EQ(copy->eos_id, vocabulary.eos_id);
  EXPECT_EQ(copy->unknown_id, vocabulary.unknown_id);
  EXPECT_EQ(copy->padding_id, vocabulary.padding_id);
  EXPECT_EQ(copy->add_bos, vocabulary.add_bos);
  EXPECT_EQ(copy->add_eos, vocabulary.add_eos);
  EXPECT_EQ(copy->add_space_prefix, vocabulary.add_space_prefix);
}

TEST_F(SmolLm2, VocabularyFileRoundTrips) { ExpectVocabularyRoundTrips(source_->vocabulary()); }

TEST_F(Stories260K, VocabularyFileRoundTrips) { ExpectVocabularyRoundTrips(source_->vocabulary()); }

TEST(GgufVocabulary, AbsentIdsSurviveTheRoundTrip) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::kSentencePiece;
  vocabulary.pieces = {"a", "b", "c"};
  vocabulary.scores = {0.0f, -1.0f, -2.0f};
  vocabulary.types.assign(3, TokenType::kNormal);

  ExpectVocabularyRoundTrips(vocabulary);
}

std::string ReadModel(const std::string& name) {
  return ReadBytes(EnvironmentOr("COMET_SOURCE_DIR", ".") + "/tests/engine/sources/models/" + name);
}

TEST(GgufSource, NamesATensorTypeItCannotRead) {
  const TempFolder folder;
  std::string bytes = ReadModel("llama_q8_0.gguf");
  const std::string name = "blk.1.ffn_down.weight";
  // After the name: the rank, two dimensions, the type.
  bytes.at(bytes.find(name) + name.size() + 4 + 2 * 8) = 11;
  WriteBytes(folder.PathOf("m"), bytes);

  const Status status = FloatSource::Open(folder.PathOf("m")).status();

  EXPECT_EQ(status.code(), StatusCode::kUnimplemented) << status;
  EXPECT_NE(status.message().find(name + ": is Q3_K, expected F32"), std::string::npos) << status;
}

TEST(GgufSource, WantsTheBiasesOfQwen2) {
  const TempFolder folder;
  std::string bytes = ReadModel("qwen2_yarn_bf16.gguf");
  for (const char layer : {'0', '1'}) {
    const std::string name = std::string("blk.") + layer + ".attn_q.bias";
    bytes.replace(bytes.find(name), name.size(), std::string("blk.") + layer + ".attn_x.bias");
  }
  WriteBytes(folder.PathOf("m"), bytes);

  const Status status = FloatSource::Open(folder.PathOf("m")).status();

  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find("blk.0.attn_q.bias: is absent"), std::string::npos) << status;
}

}  // namespace
}  // namespace comet
