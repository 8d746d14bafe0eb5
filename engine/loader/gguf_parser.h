#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/loader/gguf_file.h"

namespace comet {

// Reads a GGUF file's header front to back into a GgufFile. Every read is bounded by the file; a
// count is first compared with what the rest of the file could hold, so memory stays in proportion
// to the file. Confined to one call of GgufFile::Open().
class GgufParser {
 public:
  explicit GgufParser(GgufFile& file) : file_(file), bytes_(file.file_.bytes()) {}

  Status Parse();

 private:
  struct TensorPlace {
    uint64_t offset;  // From the start of the data section.
    uint64_t num_bytes;
  };

  Status ParseHeader();
  Status ParseMetadata();
  Status ParseValue(std::string_view key, GgufValue& value);
  Status SkipElements(std::string_view key, const GgufValue& value);
  Status ParseTensor(uint64_t tensor_idx);
  Status ReadAlignment();
  Status PlaceTensors();
  Status CheckOverlaps() const;

  template <typename T>
  Status Read(std::string_view field, T& value);
  Status ReadString(std::string_view field, uint64_t num_bytes_max, std::string_view& value);
  // A count whose items take at least `item_bytes` each.
  Status ReadCount(std::string_view field, uint64_t item_bytes, uint64_t count_max,
                   uint64_t& count);
  Status Fail(std::string_view field, const std::string& problem) const;
  uint64_t num_bytes_left() const { return bytes_.size() - position_; }

  GgufFile& file_;
  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
  uint64_t num_keys_ = 0;
  uint64_t num_tensors_ = 0;
  uint64_t alignment_ = 32;
  std::vector<TensorPlace> places_;
};

}  // namespace comet
