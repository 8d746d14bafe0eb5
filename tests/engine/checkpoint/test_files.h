#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace comet {

// A folder that lives as long as the test.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  std::string PathOf(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

std::string ReadBytes(const std::string& path);
void WriteBytes(const std::string& path, std::string_view bytes);

// A GGUF file front to back, right or wrong as the test wants it.
class GgufBuilder {
 public:
  template <typename T>
  GgufBuilder& Put(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes_.append(raw, sizeof(T));
    return *this;
  }
  GgufBuilder& PutText(std::string_view text) {
    Put<uint64_t>(text.size());
    bytes_ += text;
    return *this;
  }
  GgufBuilder& Head(uint64_t num_tensors, uint64_t num_keys, uint32_t version = 3) {
    bytes_ += "GGUF";
    return Put(version).Put(num_tensors).Put(num_keys);
  }
  GgufBuilder& Int(std::string_view key, uint32_t value) {
    return PutText(key).Put<uint32_t>(4).Put(value);
  }
  GgufBuilder& Float(std::string_view key, float value) {
    return PutText(key).Put<uint32_t>(6).Put(value);
  }
  GgufBuilder& String(std::string_view key, std::string_view value) {
    return PutText(key).Put<uint32_t>(8).PutText(value);
  }
  GgufBuilder& Tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                      uint64_t offset) {
    PutText(name).Put(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) Put(dim);
    return Put(type).Put(offset);
  }
  GgufBuilder& Data(size_t num_bytes) {
    bytes_.resize((bytes_.size() + 31) / 32 * 32 + num_bytes);
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

}  // namespace comet
