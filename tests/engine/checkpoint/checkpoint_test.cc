#include "engine/loader/checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <limits>

#include "engine/loader/chat_template_files.h"
#include "engine/loader/checkpoint_writer.h"
#include "engine/loader/gguf_file.h"
#include "kernels/base/math.h"
#include "kernels/base/random.h"
#include "tests/engine/checkpoint/test_files.h"

namespace comet {
namespace {

namespace fs = std::filesystem;

ModelConfig SmallConfig(bool tied) {
  return {.name = "small",
          .hidden_size = 192,
          .num_layers = 2,
          .num_heads = 3,
          .num_kv_heads = 1,
          .head_dim = 64,
          .rotary_dim = 64,
          .ffn_size = 320,
          .vocab_size = 10,
          .context_length_max = 128,
          .sliding_window = 48,
          .rms_norm_epsilon = 1e-6f,
          .rope = {.type = "llama3", .theta = 5e5, .factor = 8.0},
          .tied_embeddings = tied,
          .bos_id = 1,
          .eos_ids = {2, 3}};
}

Vocabulary SmallVocabulary() {
  Vocabulary vocabulary;
  vocabulary.pre_tokenizer = "smollm";
  for (char c = 'a'; c < 'a' + 10; ++c) vocabulary.pieces.emplace_back(1, c);
  vocabulary.types.assign(10, TokenType::kNormal);
  vocabulary.bos_id = 1;
  vocabulary.eos_id = 2;
  return vocabulary;
}

QuantizedLinear RandomLinear(int n, int k, bool has_gather, bool has_bias, Random& random) {
  const size_t outputs = static_cast<size_t>(n);
  QuantizedLinear linear;
  linear.num_outputs = n;
  linear.num_inputs = k;
  linear.precision = {.num_int4_channels = 128, .clip = 0.875f};
  linear.codes.resize(outputs * static_cast<size_t>(k / 2));
  for (uint8_t& code : linear.codes) code = static_cast<uint8_t>(random.NextInt(256));
  linear.steps.resize(outputs * static_cast<size_t>(CeilDiv(k, 128)));
  for (int8_t& step : linear.steps) step = static_cast<int8_t>(random.NextInt(32) - 15);
  linear.scale.resize(outputs);
  for (float& scale : linear.scale) scale = random.NextFloat(0.01f, 0.02f);
  if (has_gather) {
    for (int i = 0; i < k; ++i) linear.gather.push_back(k - 1 - i);
  }
  if (has_bias) linear.bias.assign(outputs, 0.25f);
  return linear;
}

QuantizedLayer RandomLayer(const ModelConfig& config, bool has_bias, Random& random) {
  QuantizedLayer layer;
  const int hidden = config.hidden_size;
  layer.input_norm.assign(static_cast<size_t>(hidden), 1.5f);
  layer.post_attention_norm.assign(static_cast<size_t>(hidden), 0.5f);
  layer.qkv = RandomLinear(config.qkv_size(), hidden, true, has_bias, random);
  layer.o = RandomLinear(hidden, config.q_size(), true, false, random);
  layer.gate_up = RandomLinear(2 * config.ffn_size, hidden, true, false, random);
  layer.down = RandomLinear(hidden, config.ffn_size, false, false, random);
  layer.kv = {.k_bits = 8, .v_bits = 4};
  layer.qk_hadamard = true;
  return layer;
}

struct WriteOptions {
  bool tied = true;
  bool has_bias = false;
  bool may_replace = false;
  std::vector<NamedTemplate> chat_templates = {{"default", "{{ messages }}"}};
  int layers_written = 2;
  int8_t bad_step = 0;     // Replaces a step of layer 1 when not 0.
  int32_t bad_gather = 0;  // Replaces an entry of layer 1's o_proj gather when not 0.
  float bad_norm = 1.0f;   // Replaces a value of the final norm.
};

// Writes every part, or the first layers alone.
Result<std::unique_ptr<CheckpointWriter>> WriteParts(const std::string& folder,
                                                     const WriteOptions& options) {
  const ModelConfig config = SmallConfig(options.tied);
  COMET_ASSIGN_OR_RETURN(
      std::unique_ptr<CheckpointWriter> writer,
      CheckpointWriter::Create(folder, config, options.has_bias, options.may_replace));
  Random random(5);
  for (int i = 0; i < options.layers_written; ++i) {
    QuantizedLayer layer = RandomLayer(config, options.has_bias, random);
    if (i == 1 && options.bad_step != 0) layer.down.steps[7] = options.bad_step;
    if (i == 1 && options.bad_gather != 0) layer.o.gather[7] = options.bad_gather;
    COMET_RETURN_IF_ERROR(writer->WriteLayer(i, layer));
  }
  if (options.layers_written < config.num_layers) return writer;
  std::vector<float> norm(192, 1.0f);
  norm[3] = options.bad_norm;
  COMET_RETURN_IF_ERROR(writer->WriteFinalNorm(norm));
  COMET_RETURN_IF_ERROR(
      writer->WriteLmHead(std::vector<int8_t>(10 * 192, 3), std::vector<float>(10, 0.5f)));
  if (!options.tied) {
    COMET_RETURN_IF_ERROR(writer->WriteEmbedding(std::vector<Half>(10 * 192, Half{0x3c00})));
  }
  return writer;
}

Status WriteCheckpoint(const std::string& folder, const WriteOptions& options = {}) {
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointWriter> writer,
                         WriteParts(folder, options));
  return writer->Finish(SmallVocabulary(), options.chat_templates, "{}\n");
}

void ExpectDataLoss(const std::string& folder, const std::string& in_message) {
  const Status status = Checkpoint::Open(folder).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find(in_message), std::string::npos) << status;
}

// A checkpoint in which `from` in config.json reads `to`.
void WriteWithConfigEdit(const std::string& folder, std::string_view from, std::string_view to) {
  ASSERT_TRUE(WriteCheckpoint(folder, {.may_replace = true}).ok());
  std::string text = ReadBytes(folder + "/config.json");
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  WriteBytes(folder + "/config.json", text.replace(at, from.size(), to));
}

TEST(Checkpoint, OpensWhatWasWritten) {
  const TempFolder temp;
  const std::string folder = temp.PathOf("model");
  ASSERT_TRUE(WriteCheckpoint(folder, {.tied = false, .has_bias = true}).ok());

  const auto checkpoint = Checkpoint::Open(folder);

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const ModelConfig& config = (*checkpoint)->config();
  const ModelConfig expected = SmallConfig(false);
  EXPECT_EQ(config.hidden_size, expected.hidden_size);
  EXPECT_EQ(config.rms_norm_epsilon, expected.rms_norm_epsilon);
  EXPECT_EQ(config.sliding_window, 48);
  EXPECT_EQ(config.rope.type, "llama3");
  EXPECT_EQ(config.rope.theta, 5e5);
  EXPECT_EQ(config.rope.factor, 8.0);
  EXPECT_EQ(config.eos_ids, expected.eos_ids);
  EXPECT_EQ((*checkpoint)->vocabulary().pieces, SmallVocabulary().pieces);
  EXPECT_EQ((*checkpoint)->chat_templates(),
            (std::vector<NamedTemplate>{{"default", "{{ messages }}"}}));
  EXPECT_EQ((*checkpoint)->lm_head().codes.as<int8_t>()[5], 3);
  EXPECT_TRUE((*checkpoint)->embedding().is_present());
  EXPECT_EQ((*checkpoint)->final_norm().as<float>()[0], 1.0f);
}

TEST(Checkpoint, LayersKeepTheirBytes) {
  const TempFolder temp;
  const std::string folder = temp.PathOf("model");
  ASSERT_TRUE(WriteCheckpoint(folder, {.has_bias = true}).ok());
  Random random(5);
  const ModelConfig config = SmallConfig(true);
  RandomLayer(config, true, random);
  const QuantizedLayer expected = RandomLayer(config, true, random);

  const auto checkpoint = Checkpoint::Open(folder);

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const CheckpointLayer& layer = (*checkpoint)->layer(1);
  EXPECT_EQ(layer.kv, (KvFormat{.k_bits = 8, .v_bits = 4}));
  EXPECT_TRUE(layer.qk_hadamard);
  EXPECT_EQ(layer.gate_up.weights.num_int4_channels, 128);
  EXPECT_EQ(layer.gate_up.clip, 0.875f);
  EXPECT_EQ(std::memcmp(layer.gate_up.weights.codes.data(), expected.gate_up.codes.data(),
                        expected.gate_up.codes.size()),
            0);
  EXPECT_EQ(std::memcmp(layer.down.weights.steps.data(), expected.down.steps.data(),
                        expected.down.steps.size()),
            0);
  EXPECT_EQ(layer.o.gather.as<int32_t>()[0], 191);
  EXPECT_FALSE(layer.down.gather.is_present());
  EXPECT_TRUE(layer.qkv.bias.is_present());
  EXPECT_FALSE(layer.o.bias.is_present());
  EXPECT_FALSE((*checkpoint)->embedding().is_present());
}

TEST(Checkpoint, SameContentGivesSameBytes) {
  const TempFolder temp;
  ASSERT_TRUE(WriteCheckpoint(temp.PathOf("a")).ok());
  ASSERT_TRUE(WriteCheckpoint(temp.PathOf("b")).ok());

  for (const char* file : {"/config.json", "/model.safetensors", "/tokenizer.gguf",
                           "/chat_template.jinja", "/accuracy.json"}) {
    EXPECT_EQ(ReadBytes(temp.PathOf("a") + file), ReadBytes(temp.PathOf("b") + file)) << file;
  }
}

TEST(Checkpoint, AppearsWholeOrNotAtAll) {
  const TempFolder temp;
  ASSERT_TRUE(WriteParts(temp.PathOf("model"), {.layers_written = 1}).ok());

  EXPECT_TRUE(fs::is_empty(temp.PathOf("")));
}

TEST(Checkpoint, ASealedOneStaysThoughItIsNeverPublished) {
  const TempFolder temp;
  std::string sealed;
  {
    const Result<std::unique_ptr<CheckpointWriter>> writer = WriteParts(temp.PathOf("model"), {});
    ASSERT_TRUE(writer.ok()) << writer.status();
    const Result<std::string> path = (*writer)->Seal(SmallVocabulary(), {});
    ASSERT_TRUE(path.ok()) << path.status();
    sealed = *path;
  }

  const Status opened = Checkpoint::Open(sealed).status();

  EXPECT_TRUE(opened.ok()) << opened;
}

TEST(Checkpoint, ReplacesOnlyWhenAsked) {
  const TempFolder temp;
  const std::string folder = temp.PathOf("model");
  ASSERT_TRUE(WriteCheckpoint(folder).ok());

  const Status refused = WriteCheckpoint(folder, {.chat_templates = {{"default", "second"}}});
  const Status replaced =
      WriteCheckpoint(folder, {.may_replace = true, .chat_templates = {{"default", "third"}}});

  EXPECT_EQ(refused.code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(replaced.ok()) << replaced;
  EXPECT_EQ((*Checkpoint::Open(folder))->chat_templates().at(0).source, "third");
  EXPECT_EQ(std::distance(fs::directory_iterator(temp.PathOf("")), fs::directory_iterator()), 1);
}

TEST(Checkpoint, OpenedOneSurvivesItsReplacement) {
  const TempFolder temp;
  const std::string folder = temp.PathOf("model");
  ASSERT_TRUE(WriteCheckpoint(folder).ok());
  const auto checkpoint = Checkpoint::Open(folder);
  ASSERT_TRUE(WriteCheckpoint(folder, {.may_replace = true}).ok());

  EXPECT_EQ((*checkpoint)->lm_head().codes.as<int8_t>()[5], 3);
}

TEST(Checkpoint, MissingFilesAreNotFound) {
  const TempFolder temp;
  EXPECT_EQ(Checkpoint::Open(temp.PathOf("none")).status().code(), StatusCode::kNotFound);

  for (const char* file : {"/config.json", "/model.safetensors", "/tokenizer.gguf"}) {
    const std::string folder = temp.PathOf("model");
    ASSERT_TRUE(WriteCheckpoint(folder, {.may_replace = true}).ok());
    fs::remove(folder + file);

    const Status status = Checkpoint::Open(folder).status();

    EXPECT_EQ(status.code(), StatusCode::kNotFound) << status;
    EXPECT_NE(status.message().find(file), std::string::npos) << status;
  }
}

TEST(Checkpoint, MayLackAChatTemplate) {
  const TempFolder temp;
  ASSERT_TRUE(WriteCheckpoint(temp.PathOf("model"), {.chat_templates = {}}).ok());

  const auto checkpoint = Checkpoint::Open(temp.PathOf("model"));

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE((*checkpoint)->chat_templates().empty());
}

TEST(Checkpoint, KeepsNamedTemplatesDefaultFirst) {
  const TempFolder temp;
  const std::vector<NamedTemplate> templates = {{"default", "d"}, {"rag", "r"}, {"tool_use", "t"}};
  ASSERT_TRUE(WriteCheckpoint(temp.PathOf("model"), {.chat_templates = templates}).ok());

  const auto checkpoint = Checkpoint::Open(temp.PathOf("model"));

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->chat_templates(), templates);
}

TEST(GgufTemplates, AreReadByName) {
  const TempFolder temp;
  GgufBuilder builder;
  builder.Head(0, 3)
      .String("tokenizer.chat_template.tool_use", "t")
      .String("tokenizer.chat_templates", "not one")
      .String("tokenizer.chat_template", "d");
  WriteBytes(temp.PathOf("f.gguf"), builder.bytes());
  WriteBytes(temp.PathOf("bad.gguf"),
             GgufBuilder().Head(0, 1).String("tokenizer.chat_template.a/b", "t").bytes());

  const auto file = GgufFile::Open(temp.PathOf("f.gguf"));
  const auto bad = GgufFile::Open(temp.PathOf("bad.gguf"));

  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(ReadGgufTemplates(*file).value(),
            (std::vector<NamedTemplate>{{"default", "d"}, {"tool_use", "t"}}));
  ASSERT_TRUE(bad.ok()) << bad.status();
  EXPECT_EQ(ReadGgufTemplates(*bad).status().code(), StatusCode::kDataLoss);
}

TEST(Checkpoint, RefusesWeightsThatKernelsCannotTake) {
  const TempFolder temp;
  const float infinity = std::numeric_limits<float>::infinity();

  ASSERT_TRUE(WriteCheckpoint(temp.PathOf("a"), {.bad_step = 17}).ok());
  ExpectDataLoss(temp.PathOf("a"), "down_proj: w4ax_weights: a step is 17");
  ASSERT_TRUE(WriteCheckpoint(temp.PathOf("b"), {.bad_step = -16}).ok());
  ExpectDataLoss(temp.PathOf("b"), "a step is -16");
  ASSERT_TRUE(WriteCheckpoint(temp.PathOf("c"), {.bad_gather = 192}).ok());
  ExpectDataLoss(temp.PathOf("c"), "gather");
  ASSERT_TRUE(WriteCheckpoint(temp.PathOf("d"), {.bad_gather = 5}).ok());
  ExpectDataLoss(temp.PathOf("d"), "gather");
  ASSERT_TRUE(WriteCheckpoint(temp.PathOf("e"), {.bad_norm = infinity}).ok());
  ExpectDataLoss(temp.PathOf("e"), "model.norm.weight");
}

TEST(Checkpoint, RefusesAConfigThatContradictsTheWeights) {
  const TempFolder temp;
  const std::string folder = temp.PathOf("model");
  const auto expect = [&](std::string_view from, std::string_view to, const std::string& message) {
    WriteWithConfigEdit(folder, from, to);
    ExpectDataLoss(folder, message);
  };
  expect("\"hidden_size\": 192", "\"hidden_size\": 256", "expected");
  expect("\"hidden_size\": 192", "\"hidden_size\": -1", "hidden_size");
  expect("\"hidden_size\": 192", "\"hidden_size\": \"192\"", "hidden_size");
  expect("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "layers");
  expect("\"head_dim\": 64", "\"head_dim\": 1048576", "head_dim");
  expect("\"rope_theta\": 500000.0", "\"rope_theta\": 0", "rope.theta is 0, expected 0.001");
  expect("\"sliding_window\": 48", "\"sliding_window\": 0", "sliding_window: is 0");
  expect("\"factor\": 8.0", "\"factor\": 1e7", "rope.factor");
  expect("\"low_freq_factor\": 1.0", "\"low_freq_factor\": 4.0", "rope.low_frequency_factor");
  expect("\"vocab_size\": 10", "\"vocab_size\": 11", "expected");
  expect("\"num_int4_channels\": 128", "\"num_int4_channels\": 100", "multiple of 128");
  expect("\"num_int4_channels\": 128", "\"num_int4_channels\": 1280", "num_int4_channels");
  expect("\"clip\": 0.875", "\"clip\": 0", "clip");
  expect("\"k_bits\": 8", "\"k_bits\": 7", "k_bits");
  expect("\"has_qkv_bias\": false", "\"has_qkv_bias\": true", "bias");
  expect("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", "embed_tokens");
  expect("{", "[", "config.json");
}

TEST(Checkpoint, NamesWhatALaterFormatNeeds) {
  const TempFolder temp;
  const std::string folder = temp.PathOf("model");

  WriteWithConfigEdit(folder, "\"format_version\": 1", "\"format_version\": 2");
  EXPECT_EQ(Checkpoint::Open(folder).status().code(), StatusCode::kUnimplemented);
  WriteWithConfigEdit(folder, "\"quant_method\": \"comet\"", "\"quant_method\": \"awq\"");
  EXPECT_EQ(Checkpoint::Open(folder).status().code(), StatusCode::kUnimplemented);
}

TEST(Checkpoint, RefusesEveryTruncation) {
  const TempFolder temp;
  const std::string folder = temp.PathOf("model");
  ASSERT_TRUE(WriteCheckpoint(folder).ok());

  for (const char* file : {"/config.json", "/model.safetensors", "/tokenizer.gguf"}) {
    const std::string bytes = ReadBytes(folder + file);
    for (size_t part = 0; part < 64; ++part) {
      WriteBytes(folder + file, std::string_view(bytes).substr(0, bytes.size() * part / 64));

      const Status status = Checkpoint::Open(folder).status();

      EXPECT_EQ(status.code(), StatusCode::kDataLoss) << file << " " << part << ": " << status;
    }
    WriteBytes(folder + file, bytes);
  }
}

TEST(Checkpoint, SurvivesFlippedBits) {
  const TempFolder temp;
  const std::string folder = temp.PathOf("model");
  ASSERT_TRUE(WriteCheckpoint(folder).ok());
  Random random(3);

  for (const char* file : {"/config.json", "/model.safetensors", "/tokenizer.gguf"}) {
    const std::string original = ReadBytes(folder + file);
    const int num_bytes = std::min(static_cast<int>(original.size()), 4000);
    for (int round = 0; round < 300; ++round) {
      std::string bytes = original;
      bytes[static_cast<size_t>(random.NextInt(num_bytes))] ^=
          static_cast<char>(1 << random.NextInt(8));
      WriteBytes(folder + file, bytes);
      const Status status = Checkpoint::Open(folder).status();
      EXPECT_EQ(status.ok(), status.message().empty());
    }
    WriteBytes(folder + file, original);
  }
}

}  // namespace
}  // namespace comet
