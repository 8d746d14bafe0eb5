#include "tests/engine/checkpoint/test_files.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace comet {
namespace {

std::string EnvironmentOr(const char* name, std::string fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : std::move(fallback);
}

std::string PathIfThere(const std::string& path) {
  if (std::filesystem::exists(path)) return path;
  if (EnvironmentOr("CI", "") == "true") ADD_FAILURE() << path << " is missing";
  return "";
}

}  // namespace

TempFolder::TempFolder() {
  std::string path = testing::TempDir() + "comet_checkpoint_XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) ADD_FAILURE() << "mkdtemp failed";
  path_ = path;
}

TempFolder::~TempFolder() { std::filesystem::remove_all(path_); }

std::string ReadBytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return std::move(out).str();
}

void WriteBytes(const std::string& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string DefaultModelPath() {
  const std::string source = EnvironmentOr("COMET_SOURCE_DIR", ".");
  return PathIfThere(
      EnvironmentOr("COMET_MODEL_GGUF", source + "/models/SmolLM2-135M-Instruct.Q4_1.gguf"));
}

std::string TestDataPath(std::string_view name) {
  const std::string source = EnvironmentOr("COMET_SOURCE_DIR", ".");
  return PathIfThere(EnvironmentOr("COMET_TEST_DATA", source + "/../shared/data") + "/" +
                     std::string(name));
}

}  // namespace comet
