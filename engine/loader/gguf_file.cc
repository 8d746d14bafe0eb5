#include "engine/loader/gguf_file.h"

#include <cstring>
#include <limits>

#include "engine/loader/gguf_parser.h"
#include "engine/loader/unaligned.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// Bytes of one element of an integer type, 0 for the other types.
int IntBytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::kU8:
    case GgufValueType::kI8: return 1;
    case GgufValueType::kU16:
    case GgufValueType::kI16: return 2;
    case GgufValueType::kU32:
    case GgufValueType::kI32: return 4;
    case GgufValueType::kU64:
    case GgufValueType::kI64: return 8;
    case GgufValueType::kF32:
    case GgufValueType::kF64:
    case GgufValueType::kBool:
    case GgufValueType::kString:
    case GgufValueType::kArray: return 0;
  }
  return 0;
}

// Nothing when the type is no integer or the value does not fit.
std::optional<int64_t> LoadInt(GgufValueType type, const std::byte* from) {
  switch (type) {
    case GgufValueType::kU8: return LoadUnaligned<uint8_t>(from);
    case GgufValueType::kI8: return LoadUnaligned<int8_t>(from);
    case GgufValueType::kU16: return LoadUnaligned<uint16_t>(from);
    case GgufValueType::kI16: return LoadUnaligned<int16_t>(from);
    case GgufValueType::kU32: return LoadUnaligned<uint32_t>(from);
    case GgufValueType::kI32: return LoadUnaligned<int32_t>(from);
    case GgufValueType::kI64: return LoadUnaligned<int64_t>(from);
    case GgufValueType::kU64: {
      const uint64_t value = LoadUnaligned<uint64_t>(from);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    case GgufValueType::kF32:
    case GgufValueType::kF64:
    case GgufValueType::kBool:
    case GgufValueType::kString:
    case GgufValueType::kArray: return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

int64_t GgufTensor::num_values() const {
  int64_t product = 1;
  for (const int dim : dims) product *= dim;
  return product;
}

Result<GgufFile> GgufFile::Open(const std::string& path) {
  COMET_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  GgufFile file(std::move(mapped));
  COMET_RETURN_IF_ERROR(GgufParser(file).Parse());
  return file;
}

const GgufTensor* GgufFile::FindTensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

Result<std::optional<int64_t>> GgufFile::FindInt(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::optional<int64_t>();
  const GgufValue& value = found->second;
  if (value.is_array) return WrongType(key, "an integer");
  const std::optional<int64_t> number = LoadInt(value.type, value.data.data());
  if (!number.has_value()) return WrongType(key, "an integer");
  return number;
}

Result<std::optional<double>> GgufFile::FindFloat(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::optional<double>();
  const GgufValue& value = found->second;
  if (!value.is_array && value.type == GgufValueType::kF32) {
    return std::optional<double>(LoadUnaligned<float>(value.data.data()));
  }
  if (!value.is_array && value.type == GgufValueType::kF64) {
    return std::optional<double>(LoadUnaligned<double>(value.data.data()));
  }
  return WrongType(key, "a float");
}

Result<std::optional<bool>> GgufFile::FindBool(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::optional<bool>();
  const GgufValue& value = found->second;
  if (value.is_array || value.type != GgufValueType::kBool) return WrongType(key, "a boolean");
  const uint8_t byte = LoadUnaligned<uint8_t>(value.data.data());
  if (byte > 1) return WrongType(key, "a boolean of 0 or 1");
  return std::optional<bool>(byte == 1);
}

Result<std::optional<std::string>> GgufFile::FindString(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::optional<std::string>();
  const GgufValue& value = found->second;
  if (value.is_array || value.type != GgufValueType::kString) return WrongType(key, "a string");
  const std::byte* text = value.data.data() + sizeof(uint64_t);
  return std::optional<std::string>(
      std::string(reinterpret_cast<const char*>(text), value.data.size() - sizeof(uint64_t)));
}

Result<std::vector<std::string_view>> GgufFile::FindStrings(std::string_view key) const {
  std::vector<std::string_view> strings;
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return strings;
  const GgufValue& value = found->second;
  if (!value.is_array || value.type != GgufValueType::kString) {
    return WrongType(key, "an array of strings");
  }
  strings.reserve(value.count);
  const std::byte* position = value.data.data();  // The parser has walked these lengths.
  for (uint64_t i = 0; i < value.count; ++i) {
    const uint64_t length = LoadUnaligned<uint64_t>(position);
    position += sizeof(uint64_t);
    strings.emplace_back(reinterpret_cast<const char*>(position), length);
    position += length;
  }
  return strings;
}

Result<std::vector<float>> GgufFile::FindFloats(std::string_view key) const {
  std::vector<float> floats;
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return floats;
  const GgufValue& value = found->second;
  if (!value.is_array || value.type != GgufValueType::kF32) {
    return WrongType(key, "an array of 32-bit floats");
  }
  floats.resize(value.count);
  if (!floats.empty()) std::memcpy(floats.data(), value.data.data(), value.data.size());
  return floats;
}

Result<std::vector<int64_t>> GgufFile::FindInts(std::string_view key) const {
  std::vector<int64_t> ints;
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return ints;
  const GgufValue& value = found->second;
  const int num_bytes = IntBytes(value.type);
  if (!value.is_array || num_bytes == 0) return WrongType(key, "an array of integers");
  ints.reserve(value.count);
  for (uint64_t i = 0; i < value.count; ++i) {
    const std::optional<int64_t> number =
        LoadInt(value.type, value.data.data() + i * static_cast<uint64_t>(num_bytes));
    if (!number.has_value()) return WrongType(key, "an array of integers below 2^63");
    ints.push_back(*number);
  }
  return ints;
}

Status GgufFile::WrongType(std::string_view key, std::string_view expected) const {
  const GgufValue& value = metadata_.find(key)->second;
  return DataLoss(StrCat(path(), ": ", key, ": has type ", value.is_array ? "array of " : "",
                         static_cast<uint32_t>(value.type), ", expected ", expected));
}

}  // namespace comet
