#include "engine/loader/folder_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "tests/engine/checkpoint/folder_copy.h"

namespace comet {
namespace {

using nlohmann::json;

// A change of a good config.json, and what the message about it says.
struct ConfigFault {
  json change;
  std::string part;
};

Status StatusWith(const ConfigFault& fault) {
  json config = FolderCopy("llama_1").ReadJson("config.json");
  config.update(fault.change);
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
  const ConfigFault faults[] = {
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
  for (const ConfigFault& fault : faults) {
    ExpectError(StatusWith(fault), StatusCode::kUnimplemented, {"c.", fault.part});
  }
}

TEST(FolderConfig, RefusesAbsurdValues) {
  const ConfigFault faults[] = {
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
  for (const ConfigFault& fault : faults) {
    ExpectError(StatusWith(fault), StatusCode::kDataLoss, {"c", fault.part});
  }
  const std::string deep(100'000, '[');
  ExpectError(ParseFolderConfig("c", deep).status(), StatusCode::kDataLoss, {"c: nesting"});
  ExpectError(ParseFolderConfig("c", "{\"model_type\":").status(), StatusCode::kDataLoss,
              {"c: ", "parse error"});
}

}  // namespace
}  // namespace comet
