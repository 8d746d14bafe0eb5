// Hugging Face folders that are wrong: what is refused, and what the message says. That right ones
// are read right is tests/engine/model/source_logits_test.cc.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/engine/checkpoint/folder_copy.h"

namespace comet {
namespace {

using nlohmann::json;

constexpr const char* kIndexFile = "model.safetensors.index.json";

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
