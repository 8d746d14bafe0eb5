#include "server/commands/serve_options.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "tests/engine/test_data.h"

namespace comet {
namespace {

// A file in the test's own folder, removed at the end.
class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text)
      : path_(testing::TempDir() + "/" +
              testing::UnitTest::GetInstance()->current_test_info()->name() + ".json") {
    std::ofstream(path_) << text;
  }
  ~ConfigFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(ServeOptions, PutsTheFileOverDefaultsAndFlagsOverTheFile) {
  const ConfigFile file(R"({
    // A comment.
    "model": "from-file", "port": 1, "engine": {"scheduler": {"choices_max": 3}},
    "http": {"idle_ms_max": 7}
  })");

  const Result<ServeOptions> options =
      LoadServeOptions(file.path(), {{"--port", "2"}, {"--host", "0.0.0.0"}});

  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->model, "from-file");
  EXPECT_EQ(options->http.port, 2);
  EXPECT_EQ(options->http.host, "0.0.0.0");
  EXPECT_EQ(options->grpc.host, "0.0.0.0");
  EXPECT_EQ(options->engine.scheduler.choices_max, 3);
  EXPECT_EQ(options->http.idle_ms_max, 7);
  EXPECT_EQ(options->http.read_ms_max, HttpConfig().read_ms_max);
}

TEST(ServeOptions, RefusesUnknownKeysAtEveryLevel) {
  const ConfigFile file(
      R"({"model": "m", "prot": 1, "engine": {"x": 1, "scheduler": {"y": 1}}, "http": {"z": 1}})");

  const Status status = LoadServeOptions(file.path(), {}).status();

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  for (const char* name : {"prot", "engine.x", "engine.scheduler.y", "http.z"}) {
    EXPECT_NE(status.message().find(name), std::string::npos) << name << ": " << status.message();
  }
}

TEST(ServeOptions, RefusesWrongTypesInFileAndFlags) {
  const ConfigFile file(R"({"model": "m", "port": "80"})");

  EXPECT_EQ(LoadServeOptions(file.path(), {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(LoadServeOptions("", {{"--port", "80x"}}).status(),
            InvalidArgument("--port: value is \"80x\", expected a number"));
  EXPECT_EQ(LoadServeOptions("/nowhere/x.json", {}).status().code(), StatusCode::kNotFound);
}

TEST(ServeOptions, RefusesSectionsThatAreNoObjects) {
  const ConfigFile file(R"({"model": "m", "engine": {"scheduler": [1]}, "http": 7, "json": null})");

  const Status status = LoadServeOptions(file.path(), {}).status();

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  for (const char* fault :
       {"engine.scheduler is a JSON array, expected an object",
        "http is a JSON number, expected an object", "json is a JSON null, expected an object"}) {
    EXPECT_NE(status.message().find(fault), std::string::npos) << status.message();
  }
  const ConfigFile parent(R"({"model": "m", "engine": []})");
  EXPECT_EQ(LoadServeOptions(parent.path(), {}).status().code(), StatusCode::kInvalidArgument);
}

TEST(ServeOptions, ReportsEveryBrokenRule) {
  const Status status = LoadServeOptions("", {{"--drain-seconds", "-1"},
                                              {"--http-connections-max", "0"},
                                              {"--grpc-threads", "0"},
                                              {"--choices-max", "0"},
                                              {"--device", "tpu"},
                                              {"--activation-bits", "4"},
                                              {"--kv-bits", "8/5"},
                                              {"--log-level", "loud"},
                                              {"--json-depth-max", "65"}})
                            .status();

  for (const char* name : {"model", "drain_seconds", "http.connections_max", "grpc.num_threads",
                           "scheduler.choices_max", "device", "activation bits are", "KV bits are",
                           "log_level", "json.depth_max"}) {
    EXPECT_NE(status.message().find(name), std::string::npos) << name << ": " << status.message();
  }
}

TEST(ServeOptions, TakesEveryFormOfPrecision) {
  for (const char* activations : {"auto", "mixed", "8", "float"}) {
    for (const char* kv : {"auto", "4", "8/4", "16", "32"}) {
      const Status status =
          LoadServeOptions(
              "", {{"--model", "m"}, {"--activation-bits", activations}, {"--kv-bits", kv}})
              .status();
      EXPECT_TRUE(status.ok()) << status;
    }
  }
}

TEST(ServeOptions, PrintsWhatItReads) {
  ServeOptions options = *LoadServeOptions("", {{"--model", "m"}, {"--aging-ms", "123"}});
  const ConfigFile file(ToJson(options).dump());

  const Result<ServeOptions> again = LoadServeOptions(file.path(), {});

  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(ToJson(*again), ToJson(options));
  EXPECT_EQ(again->engine.scheduler.aging_ms, 123);
}

TEST(ServeOptions, GivesEveryOptionItsOwnFlagAndKey) {
  ServeOptions options;
  std::set<std::string> flags;
  std::set<std::string> keys;
  for (const OptionRule& rule : ServeOptionRules(options)) {
    EXPECT_TRUE(flags.insert(std::string(rule.flag)).second) << rule.flag;
    EXPECT_TRUE(keys.insert(std::string(rule.section) + "." + std::string(rule.key)).second);
    EXPECT_FALSE(rule.help.empty()) << rule.flag;
  }
}

// Those of `comet serve` lie at the top; models' shapes have a folder of their own.
TEST(ServeOptions, LoadsEveryFileOfConfigs) {
  int num_files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(EnvironmentOr("COMET_SOURCE_DIR", ".") + "/configs")) {
    if (entry.path().extension() != ".json") continue;
    const Result<ServeOptions> options = LoadServeOptions(entry.path().string(), {});
    EXPECT_TRUE(options.ok()) << entry.path() << ": " << options.status();
    ++num_files;
  }
  EXPECT_GE(num_files, 1);
}

TEST(ServeOptions, ShowsEveryDefaultInConfigsServe) {
  const std::string path = EnvironmentOr("COMET_SOURCE_DIR", ".") + "/configs/serve.json";

  const Result<ServeOptions> options = LoadServeOptions(path, {});

  ASSERT_TRUE(options.ok()) << options.status();
  ServeOptions defaults;
  defaults.model = options->model;
  EXPECT_EQ(ToJson(*options), ToJson(defaults));
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  for (const OptionRule& rule : ServeOptionRules(defaults)) {
    EXPECT_NE(text.find("\"" + std::string(rule.key) + "\""), std::string::npos) << rule.key;
  }
}

}  // namespace
}  // namespace comet
