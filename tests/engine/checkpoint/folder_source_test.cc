// Hugging Face folders that are wrong: what is refused, and what the message says. That right ones
// are read right is tests/engine/model/source_logits_test.cc.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/loader/float_source.h"
#include "engine/loader/folder_config.h"
#include "engine/loader/folder_weights.h"
#include "tests/engine/checkpoint/test_files.h"
#include "tests/engine/test_data.h"

namespace comet {
namespace {

using nlohmann::json;

constexpr const char* kWeightsFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

// A copy of one of the small models, to be damaged.
class FolderCopy {
 public:
  explicit FolderCopy(const std::string& name) {
    const std::string from =
        EnvironmentOr("COMET_SOURCE_DIR", ".") + "/tests/engine/sources/models/";
    std::filesystem::copy(from + name, path());
  }

  std::string path() const { return folder_.PathOf("m"); }
  std::string PathOf(const std::string& file) const { return path() + "/" + file; }
  json ReadJson(const std::string& file) const { return json::parse(ReadBytes(PathOf(file))); }
  void WriteJson(const std::string& file, const json& value) const {
    WriteBytes(PathOf(file), value.dump());
  }
  void Remove(const std::string& file) const { std::filesystem::remove(PathOf(file)); }

  // Changes the header of the weights; the data stays as it is.
  void EditHeader(const std::function<void(json& header)>& edit, size_t padding = 0) const {
    const std::string bytes = ReadBytes(PathOf(kWeightsFile));
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof(length));
    json header = json::parse(bytes.substr(8, length));
    edit(header);
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8 + padding, ' ');
    const uint64_t new_length = text.size();
    WriteBytes(PathOf(kWeightsFile), std::string(reinterpret_cast<const char*>(&new_length), 8) +
                                         text + bytes.substr(8 + length));
  }

  // Overwrites bytes of one tensor, `offset` bytes into it.
  void EditData(const std::string& name, size_t offset, std::string_view with) const {
    std::string bytes = ReadBytes(PathOf(kWeightsFile));
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof(length));
    const json header = json::parse(bytes.substr(8, length));
    const size_t begin = header.at(name).at("data_offsets").at(0).get<size_t>();
    bytes.replace(8 + length + begin + offset, with.size(), with);
    WriteBytes(PathOf(kWeightsFile), bytes);
  }

  Status Open() const { return FloatSource::Open(path()).status(); }

 private:
  TempFolder folder_;
};

void ExpectError(const Status& status, StatusCode code, const std::vector<std::string>& parts) {
  EXPECT_EQ(status.code(), code) << status;
  for (const std::string& part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status << "\nlacks " << part;
  }
}

Status ConfigStatus(const std::function<void(json& config)>& edit) {
  const FolderCopy folder("llama_1");
  json config = folder.ReadJson("config.json");
  edit(config);
  return ParseFolderConfig("c", config.dump()).status();
}

ModelConfig ConfigOf(const json& config) {
  const Result<FolderConfig> parsed = ParseFolderConfig("c", config.dump());
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? parsed->model : ModelConfig();
}

json SmallConfig(const std::string& model_type) {
  return {{"model_type", model_type},  {"hidden_size", 64},       {"num_hidden_layers", 2},
          {"num_attention_heads", 32}, {"intermediate_size", 96}, {"vocab_size", 100}};
}

TEST(FolderConfig, TakesTransformersDefaultsForWhatIsAbsent) {
  const ModelConfig llama = ConfigOf(SmallConfig("llama"));
  EXPECT_EQ(llama.num_kv_heads, 32);
  EXPECT_EQ(llama.context_length_max, 2048);
  EXPECT_EQ(llama.sliding_window, 0);
  EXPECT_EQ(llama.rms_norm_epsilon, 1e-6f);
  EXPECT_EQ(llama.rope.theta, 10000.0);

  const ModelConfig mistral = ConfigOf(SmallConfig("mistral"));
  EXPECT_EQ(mistral.num_kv_heads, 8);
  EXPECT_EQ(mistral.sliding_window, 4096);
  EXPECT_EQ(mistral.context_length_max, 131072);
  json without_window = SmallConfig("mistral");
  without_window["sliding_window"] = nullptr;
  without_window["num_key_value_heads"] = nullptr;
  EXPECT_EQ(ConfigOf(without_window).sliding_window, 0);
  EXPECT_EQ(ConfigOf(without_window).num_kv_heads, 32);

  json qwen2 = SmallConfig("qwen2");
  qwen2["sliding_window"] = 128;
  EXPECT_EQ(ConfigOf(qwen2).sliding_window, 0);  // Not used unless it says so.
  qwen2["use_sliding_window"] = true;
  EXPECT_EQ(ConfigOf(qwen2).sliding_window, 0);  // The first 28 layers have none.
  qwen2["max_window_layers"] = 0;
  EXPECT_EQ(ConfigOf(qwen2).sliding_window, 128);

  for (const auto& [type, vocab_size] :
       {std::pair("llama", 32000), std::pair("mistral", 32000), std::pair("qwen2", 151936)}) {
    json config = SmallConfig(type);
    config.erase("vocab_size");
    EXPECT_EQ(ConfigOf(config).vocab_size, vocab_size) << type;
  }
}

TEST(FolderConfig, ReadsRopeInEveryForm) {
  json config = SmallConfig("llama");
  config["rope_theta"] = 20000.0;
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  const RopeConfig older = ConfigOf(config).rope;
  config.erase("rope_theta");
  config.erase("rope_scaling");
  config["rope_parameters"] = {{"rope_type", "linear"}, {"rope_theta", 20000.0}, {"factor", 2.0}};
  const RopeConfig newer = ConfigOf(config).rope;
  for (const RopeConfig& rope : {older, newer}) {
    EXPECT_EQ(rope.type, "linear");
    EXPECT_EQ(rope.theta, 20000.0);
    EXPECT_EQ(rope.factor, 2.0);
  }

  config["rope_parameters"] = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 512}};
  const RopeConfig yarn = ConfigOf(config).rope;
  EXPECT_EQ(yarn.original_context_max, 512);
  EXPECT_NEAR(yarn.attention_factor, 1.1386, 1e-4);
}

TEST(FolderConfig, NamesWhatItHasNoCodeFor) {
  const std::pair<json, std::string> cases[] = {
      {{{"model_type", "gpt2"}}, "model_type"},
      {{{"architectures", {"LlamaForSequenceClassification"}}}, "architectures"},
      {{{"hidden_act", "gelu"}}, "hidden_act"},
      {{{"attention_bias", true}}, "attention_bias"},
      {{{"mlp_bias", true}}, "mlp_bias"},
      {{{"partial_rotary_factor", 0.5}}, "partial_rotary_factor"},
      {{{"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}}, "length of the sequence"},
      {{{"rope_scaling", {{"rope_type", "longrope"}}}}, "length of the sequence"},
      {{{"rope_scaling", {{"rope_type", "mrope"}}}}, "rope_scaling.rope_type"},
      {{{"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}}}, "full_attention"},
      {{{"layer_types", {"sliding_attention", "full_attention"}}}, "layer_types"},
      {{{"quantization_config", {{"quant_method", "bitsandbytes"}}}}, "quant_method"},
      {{{"quantization_config", {{"quant_method", "comet"}}}}, "quantised already"},
      {{{"quantization_config", {{"quant_method", "awq"}, {"bits", 8}, {"group_size", 128}}}},
       "bits: is 8"},
      {{{"quantization_config",
         {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 128}, {"version", "gemv"}}}},
       "version"},
      {{{"quantization_config", {{"quant_method", "compressed-tensors"}, {"format", "dense"}}}},
       "format"},
  };
  for (const auto& [change, part] : cases) {
    const Status status = ConfigStatus([&](json& config) { config.update(change); });
    ExpectError(status, StatusCode::kUnimplemented, {"c.", part});
  }
}

TEST(FolderConfig, RefusesAbsurdValues) {
  const std::pair<json, std::string> cases[] = {
      {{{"hidden_size", int64_t{1} << 40}}, "hidden_size"},
      {{{"hidden_size", 33}}, "hidden_size is odd"},
      {{{"num_hidden_layers", 1'000'000'000}}, "num_hidden_layers"},
      {{{"num_hidden_layers", 0}}, "num_hidden_layers"},
      {{{"num_attention_heads", -1}}, "num_attention_heads"},
      {{{"num_key_value_heads", 3}}, "num_kv_heads"},
      {{{"vocab_size", "many"}}, "vocab_size: is \"many\", expected an integer"},
      {{{"rms_norm_eps", 0.0}}, "rms_norm_epsilon"},
      {{{"eos_token_id", 1'000'000}}, "eos_token_id"},
      {{{"rope_theta", 1e300}}, "rope.theta"},
      {{{"rope_scaling", {{"type", "linear"}}}}, "rope_scaling.factor: is absent"},
      {{{"rope_scaling", json::array()}}, "expected an object"},
      {{{"tie_word_embeddings", 1}}, "expected true or false"},
      {{{"quantization_config", {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 0}}}},
       "group_size: is 0"},
  };
  for (const auto& [change, part] : cases) {
    const Status status = ConfigStatus([&](json& config) { config.update(change); });
    ExpectError(status, StatusCode::kDataLoss, {"c", part});
  }
  const std::string deep(100'000, '[');
  ExpectError(ParseFolderConfig("c", deep).status(), StatusCode::kDataLoss, {"c: nesting"});
  ExpectError(ParseFolderConfig("c", "{\"model_type\":").status(), StatusCode::kDataLoss,
              {"c: ", "parse error"});
}

TEST(FolderSource, RefusesEveryTruncation) {
  for (const char* file : {kWeightsFile, "config.json", "tokenizer.json"}) {
    const FolderCopy folder("llama_1");
    const std::string whole = ReadBytes(folder.PathOf(file));
    const size_t size = whole.find_last_not_of('\n') + 1;
    for (size_t length = 0; length < size; length += 1 + size / 50) {
      WriteBytes(folder.PathOf(file), std::string_view(whole).substr(0, length));

      const Status status = folder.Open();

      ExpectError(status, StatusCode::kDataLoss, {folder.PathOf(file)});
    }
  }
}

TEST(FolderSource, NamesAMisfitTensor) {
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const auto status_of = [&](const std::function<void(json&)>& edit) {
    const FolderCopy folder("llama_1");
    folder.EditHeader(edit);
    return folder.Open();
  };
  ExpectError(
      status_of([&](json& header) { header[name + "s"] = header[name], header.erase(name); }),
      StatusCode::kDataLoss, {name + ": is absent, expected F32, F16, BF16 [48, 32]"});
  ExpectError(status_of([&](json& header) {
                header[name]["shape"] = {32, 48};
              }),
              StatusCode::kDataLoss,
              {name + ": is F16 [32, 48], expected F32, F16, BF16 [48, 32]"});
  ExpectError(status_of([&](json& header) { header[name]["dtype"] = "I16"; }),
              StatusCode::kUnimplemented, {name + ": is I16, expected F32"});
  ExpectError(status_of([&](json& header) {
                header[name]["dtype"] = "I32";
                header[name]["shape"] = {48, 16};
              }),
              StatusCode::kDataLoss, {name + ": is I32 [48, 16]"});
  ExpectError(status_of([&](json& header) {
                header[name]["shape"] = {48, 33};
              }),
              StatusCode::kDataLoss, {name, "expected 3168 for F16 [48, 33]"});
  ExpectError(status_of([&](json& header) {
                const int64_t begin = header[name]["data_offsets"][0];
                header[name]["data_offsets"] = {begin - 2, header[name]["data_offsets"][1]};
              }),
              StatusCode::kDataLoss, {name + ".data_offsets: span 3074 bytes, expected 3072"});
  ExpectError(status_of([&](json& header) {
                const std::string other = "model.layers.0.mlp.up_proj.weight";
                header[name]["data_offsets"] = header[other]["data_offsets"];
              }),
              StatusCode::kDataLoss, {"where the tensor before it ends"});
}

TEST(FolderSource, RefusesATensorWithoutAPlace) {
  const FolderCopy folder("llama_1");
  json config = folder.ReadJson("config.json");
  config["num_hidden_layers"] = 1;
  folder.WriteJson("config.json", config);

  ExpectError(folder.Open(), StatusCode::kUnimplemented,
              {"model.layers.1.", "has no place in a llama decoder of 1 layers"});
}

TEST(FolderSource, NamesAValueThatIsNotFinite) {
  const FolderCopy folder("llama_1");
  const std::string name = "model.layers.1.self_attn.k_proj.weight";
  folder.EditData(name, 6, "\xff\x7f");  // An f16 NaN.

  const auto source = FloatSource::Open(folder.path());
  ASSERT_TRUE(source.ok()) << source.status();

  EXPECT_TRUE((*source)->ReadLayer(0).ok());
  ExpectError((*source)->ReadLayer(1).status(), StatusCode::kDataLoss,
              {folder.path(), name + ": value 3 is nan"});
}

TEST(FolderSource, ReadsUnalignedTensors) {
  const FolderCopy folder("llama_1");
  const std::vector<float> expected =
      FloatSource::Open(folder.path()).value()->ReadEmbedding().value();

  folder.EditHeader([](json&) {}, /*padding=*/1);

  const auto source = FloatSource::Open(folder.path());
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->ReadEmbedding().value(), expected);
}

TEST(FolderSource, RefusesAVocabularyThatDoesNotMatch) {
  const FolderCopy folder("llama_1");
  json tokenizer = folder.ReadJson("tokenizer.json");
  for (int id = 29; id < 60; ++id) tokenizer["model"]["vocab"]["w" + std::to_string(id)] = id;
  folder.WriteJson("tokenizer.json", tokenizer);

  ExpectError(folder.Open(), StatusCode::kDataLoss,
              {"tokenizer.json", "has 60 tokens", "the embedding's 48 rows"});
}

TEST(FolderSource, ReadsAnIndexThatMatchesItsShardsOnly) {
  const auto status_of = [](const std::function<void(const FolderCopy&, json& map)>& edit) {
    const FolderCopy folder("mistral_window");
    json index = folder.ReadJson(kIndexFile);
    edit(folder, index["weight_map"]);
    folder.WriteJson(kIndexFile, index);
    return folder.Open();
  };
  const std::string first = "model-00001-of-00002.safetensors";
  const std::string second = "model-00002-of-00002.safetensors";
  EXPECT_TRUE(status_of([](const FolderCopy&, json&) {}).ok());
  ExpectError(status_of([&](const FolderCopy& folder, json&) { folder.Remove(second); }),
              StatusCode::kNotFound, {second});
  ExpectError(status_of([&](const FolderCopy&, json& map) { map["no.such"] = first; }),
              StatusCode::kDataLoss, {"weight_map.no.such", first});
  ExpectError(status_of([&](const FolderCopy&, json& map) {
                std::string& file = map["lm_head.weight"].get_ref<std::string&>();
                file = file == first ? second : first;
              }),
              StatusCode::kDataLoss, {"weight_map.lm_head.weight", "a file that has this tensor"});
  ExpectError(status_of([&](const FolderCopy&, json& map) { map.erase("lm_head.weight"); }),
              StatusCode::kDataLoss, {"lm_head.weight", "not named in weight_map"});
  ExpectError(status_of([&](const FolderCopy& folder, json& map) {
                std::filesystem::copy(folder.PathOf(first), folder.PathOf("copy.safetensors"));
                map["again"] = "copy.safetensors";
              }),
              StatusCode::kDataLoss, {"another shard has too"});
  for (const char* name : {"../x.safetensors", "/etc/passwd", "", "x.gguf"}) {
    ExpectError(status_of([&](const FolderCopy&, json& map) { map["lm_head.weight"] = name; }),
                StatusCode::kDataLoss, {"weight_map.lm_head.weight", "in the folder"});
  }
  ExpectError(status_of([](const FolderCopy&, json& map) { map["a"] = "pytorch_model-1.bin"; }),
              StatusCode::kUnimplemented, {"pytorch_model-1.bin: is a pickle file"});
}

TEST(FolderSource, RefusesPicklesByName) {
  const FolderCopy folder("llama_1");
  std::filesystem::rename(folder.PathOf(kWeightsFile), folder.PathOf("pytorch_model.bin"));
  ExpectError(folder.Open(), StatusCode::kUnimplemented,
              {folder.PathOf("pytorch_model.bin"), "is a pickle file"});

  for (const char* name : {"m.pt", "m.pth", "m.bin", "m.ckpt", "m.pkl", "m.pickle"}) {
    ExpectError(FloatSource::Open(folder.PathOf(name)).status(), StatusCode::kUnimplemented,
                {name, "is a pickle file"});
  }
  // By what is in it: torch.save()'s zip archive, and a bare pickle.
  for (const char* bytes : {"PK\x03\x04 and so on", "\x80\x04\x95 and so on"}) {
    WriteBytes(folder.PathOf(kWeightsFile), bytes);
    ExpectError(folder.Open(), StatusCode::kUnimplemented, {kWeightsFile, "is a pickle file"});
    WriteBytes(folder.PathOf("m"), bytes);
    ExpectError(FloatSource::Open(folder.PathOf("m")).status(), StatusCode::kUnimplemented,
                {"is a pickle file"});
  }
}

TEST(FolderSource, SaysWhichFilesItNeeds) {
  const FolderCopy folder("llama_1");
  folder.Remove(kWeightsFile);
  ExpectError(folder.Open(), StatusCode::kNotFound, {folder.path(), "expected model.safetensors"});
  WriteBytes(folder.PathOf("consolidated.safetensors"), "");
  ExpectError(folder.Open(), StatusCode::kUnimplemented, {"consolidated.safetensors"});
  ExpectError(FloatSource::Open(folder.PathOf("consolidated.safetensors")).status(),
              StatusCode::kInvalidArgument, {"expected the folder"});
  folder.Remove("config.json");
  ExpectError(folder.Open(), StatusCode::kNotFound, {"config.json"});
}

TEST(PackedFolder, NamesAMisfitTensor) {
  const std::string layer = "model.layers.0.self_attn.q_proj";
  {
    const FolderCopy folder("gptq_v2_act_order");
    folder.EditHeader([&](json& header) { header[layer + ".qzeros"]["shape"] = {16, 4}; });
    ExpectError(folder.Open(), StatusCode::kDataLoss,
                {layer + ".qzeros: is I32 [16, 4], expected I32 [4, 16]"});
  }
  {
    const FolderCopy folder("awq");
    json config = folder.ReadJson("config.json");
    config["quantization_config"]["group_size"] = 64;
    folder.WriteJson("config.json", config);
    ExpectError(folder.Open(), StatusCode::kDataLoss, {".qzeros", "expected I32 [2, 16]"});
  }
  {
    const FolderCopy folder("awq");  // Plain weights are not packed ones.
    json config = folder.ReadJson("config.json");
    config.erase("quantization_config");
    folder.WriteJson("config.json", config);
    ExpectError(folder.Open(), StatusCode::kDataLoss, {".weight: is absent"});
  }
}

TEST(PackedFolder, RefusesAGroupThatIsNotThere) {
  const FolderCopy folder("gptq_v2_act_order");
  folder.EditData("model.layers.0.mlp.down_proj.g_idx", 0, "\xff\xff\xff\xff");

  const auto source = FloatSource::Open(folder.path());
  ASSERT_TRUE(source.ok()) << source.status();

  ExpectError((*source)->ReadLayer(0).status(), StatusCode::kDataLoss,
              {"down_proj", "the group of input 0 is -1, expected 0 to 7"});
}

TEST(PackedFolder, RefusesABiasThatIsNotZero) {
  const FolderCopy folder("gptq_v2_act_order");
  const std::string name = "model.layers.0.mlp.down_proj.bias";
  folder.EditData(name, 2, "\1");

  ExpectError(folder.Open(), StatusCode::kUnimplemented, {name + ": has no place"});
}

}  // namespace
}  // namespace comet
