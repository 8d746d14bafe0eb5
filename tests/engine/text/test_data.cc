#include "tests/engine/text/test_data.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>

#include "kernels/base/check.h"

namespace comet {
namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

std::string TestDataPath(const std::string& relative) {
  const std::string folder = Environment("COMET_TEST_DATA");
  if (!folder.empty()) return folder + "/" + relative;
  return Environment("COMET_SOURCE_DIR") + "/../shared/data/" + relative;
}

bool HasTestData(const std::string& relative) {
  return std::filesystem::exists(TestDataPath(relative));
}

bool RunsInCi() { return Environment("CI") == "true"; }

std::string ReadTestFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  COMET_CHECK_MSG(file.is_open(), path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace comet
