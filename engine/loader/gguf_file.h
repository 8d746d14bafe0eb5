#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/loader/gguf_tensor_types.h"
#include "engine/loader/mapped_file.h"
#include "kernels/base/status.h"

namespace comet {

// The kinds of metadata values, by the numbers in the file.
enum class GgufValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// A metadata value, checked but left in the file: `data` starts at the value, or at the first
// element of an array of `count` elements of `type`.
struct GgufValue {
  GgufValueType type = GgufValueType::kU8;  // An array's element type.
  bool is_array = false;
  uint64_t count = 1;
  std::span<const std::byte> data;
};

struct GgufTensor {
  std::string_view name;
  GgufTensorType type = GgufTensorType::kF32;  // Any number: see IsKnown().
  std::vector<int> dims;            // Outermost first: [rows, columns], unlike in the file.
  std::span<const std::byte> data;  // Empty where the type, so the size, is not known.

  int64_t num_values() const;
};

// A GGUF file, versions 2 and 3, little-endian, mapped. Open() checks every count, length, offset,
// type and name against the file, and that tensors do not overlap (of a tensor whose type is not
// known, only where it begins); it holds a few dozen bytes per
// key and tensor and copies no value. Immutable, so thread-safe.
class GgufFile {
 public:
  // Errors: kNotFound; kDataLoss with file, field, got and expected; kUnimplemented for another
  // version or byte order.
  static Result<GgufFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  int64_t num_bytes() const { return file_.num_bytes(); }
  uint32_t version() const { return version_; }
  const std::map<std::string_view, GgufValue>& metadata() const { return metadata_; }
  // In the file's order.
  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  bool Has(std::string_view key) const { return metadata_.contains(key); }
  const GgufTensor* FindTensor(std::string_view name) const;  // Null: there is none.

  // Absent keys give nullopt (an empty array). Errors: kDataLoss when the value has another type.
  // Integers of any width are accepted when their value fits int64_t, floats of both widths.
  Result<std::optional<int64_t>> FindInt(std::string_view key) const;
  Result<std::optional<double>> FindFloat(std::string_view key) const;
  Result<std::optional<bool>> FindBool(std::string_view key) const;
  Result<std::optional<std::string>> FindString(std::string_view key) const;
  Result<std::vector<std::string_view>> FindStrings(std::string_view key) const;
  Result<std::vector<float>> FindFloats(std::string_view key) const;
  Result<std::vector<int64_t>> FindInts(std::string_view key) const;

 private:
  friend class GgufParser;
  explicit GgufFile(MappedFile file) : file_(std::move(file)) {}

  Status WrongType(std::string_view key, std::string_view expected) const;

  MappedFile file_;
  uint32_t version_ = 0;
  std::map<std::string_view, GgufValue> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string_view, size_t> tensor_index_;
};

}  // namespace comet
