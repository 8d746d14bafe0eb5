#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/loader/float_source.h"
#include "tests/engine/checkpoint/test_files.h"
#include "tests/engine/test_data.h"

namespace comet {

constexpr const char* kWeightsFile = "model.safetensors";

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
  nlohmann::json ReadJson(const std::string& file) const {
    return nlohmann::json::parse(ReadBytes(PathOf(file)));
  }
  void WriteJson(const std::string& file, const nlohmann::json& value) const {
    WriteBytes(PathOf(file), value.dump());
  }
  void Remove(const std::string& file) const { std::filesystem::remove(PathOf(file)); }

  // Changes the header of the weights; the data stays as it is.
  void EditHeader(const std::function<void(nlohmann::json& header)>& edit,
                  size_t padding = 0) const {
    const std::string bytes = ReadBytes(PathOf(kWeightsFile));
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof(length));
    nlohmann::json header = nlohmann::json::parse(bytes.substr(8, length));
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
    const nlohmann::json header = nlohmann::json::parse(bytes.substr(8, length));
    const size_t begin = header.at(name).at("data_offsets").at(0).get<size_t>();
    bytes.replace(8 + length + begin + offset, with.size(), with);
    WriteBytes(PathOf(kWeightsFile), bytes);
  }

  Status Open() const { return FloatSource::Open(path()).status(); }

 private:
  TempFolder folder_;
};

inline void ExpectError(const Status& status, StatusCode code,
                        const std::vector<std::string>& parts) {
  EXPECT_EQ(status.code(), code) << status;
  for (const std::string& part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status << "\nlacks " << part;
  }
}

}  // namespace comet
