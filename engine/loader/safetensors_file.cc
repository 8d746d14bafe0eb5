#include "engine/loader/safetensors_file.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "engine/loader/json_reader.h"
#include "engine/loader/pickle_check.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr uint64_t kLengthBytes = 8;
// The format allows 100 MB. JSON values take up to 16 times the bytes of their text, and headers of
// published files have less than 1 MB.
constexpr uint64_t kHeaderBytesMax = 16 << 20;
constexpr int kHeaderDepth = 3;  // The object of tensors, a tensor, its shape.
constexpr int64_t kValuesMax = int64_t{1} << 40;

struct TensorEntry {
  std::string name;
  std::string dtype_name;
  int value_bytes = 0;
  TensorShape shape;
  uint64_t begin = 0;  // Within the data.
  uint64_t end = 0;
};

Result<TensorShape> ShapeOf(const std::string& where, const std::vector<int64_t>& dims) {
  int64_t num_values = 1;
  for (const int64_t dim : dims) {
    const int64_t factor = std::max<int64_t>(dim, 1);  // Strides are products of these.
    if (num_values > kValuesMax / factor) {
      return DataLoss(StrCat(where, ".shape: has more than 2^40 values, expected fewer"));
    }
    num_values *= factor;
  }
  const auto at = [&](size_t i) { return static_cast<int>(dims[i]); };
  switch (dims.size()) {
    case 0: return TensorShape({1});
    case 1: return TensorShape({at(0)});
    case 2: return TensorShape({at(0), at(1)});
    case 3: return TensorShape({at(0), at(1), at(2)});
    default: return TensorShape({at(0), at(1), at(2), at(3)});
  }
}

// 0: an unknown dtype, or one of less than a byte.
int ValueBytes(std::string_view dtype) {
  static constexpr std::pair<std::string_view, int> kOthers[] = {
      {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I16", 2}, {"U16", 2},
      {"U32", 4},  {"I64", 8},     {"U64", 8},     {"F64", 8}};
  const Result<DType> known = SafetensorsDType(dtype);
  if (known.ok()) return BytesOf(*known);
  for (const auto& [name, num_bytes] : kOthers) {
    if (name == dtype) return num_bytes;
  }
  return 0;
}

Result<TensorEntry> ReadEntry(const std::string& name, const JsonReader& reader,
                              const std::string& where, uint64_t data_bytes) {
  TensorEntry entry;
  entry.name = name;
  COMET_ASSIGN_OR_RETURN(entry.dtype_name, reader.String("dtype"));
  entry.value_bytes = ValueBytes(entry.dtype_name);
  if (entry.value_bytes == 0) {
    return Unimplemented(StrCat(where, ".dtype: is \"", entry.dtype_name.substr(0, 60),
                                "\", expected a floating-point or integer type of whole bytes"));
  }
  COMET_ASSIGN_OR_RETURN(
      const std::vector<int64_t> dims,
      reader.Ints("shape", 0, std::numeric_limits<int32_t>::max(), kTensorRankMax));
  COMET_ASSIGN_OR_RETURN(entry.shape, ShapeOf(where, dims));
  COMET_ASSIGN_OR_RETURN(const std::vector<int64_t> offsets,
                         reader.Ints("data_offsets", 0, static_cast<int64_t>(data_bytes), 2));
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    return DataLoss(StrCat(where, ".data_offsets: is not an ascending pair"));
  }
  entry.begin = static_cast<uint64_t>(offsets[0]);
  entry.end = static_cast<uint64_t>(offsets[1]);
  const uint64_t expected =
      static_cast<uint64_t>(entry.shape.num_elements()) * static_cast<uint64_t>(entry.value_bytes);
  if (entry.end - entry.begin != expected) {
    return DataLoss(StrCat(where, ".data_offsets: span ", entry.end - entry.begin,
                           " bytes, expected ", expected, " for ", entry.dtype_name, " ",
                           entry.shape.ToString()));
  }
  return entry;
}

Status CheckCoverage(const std::string& path, std::vector<TensorEntry>& entries,
                     uint64_t data_bytes) {
  std::ranges::sort(entries, [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t position = 0;
  for (const TensorEntry& entry : entries) {
    if (entry.begin != position) {
      return DataLoss(StrCat(path, ": ", entry.name, ": begins at ", entry.begin, ", expected ",
                             position, " where the tensor before it ends"));
    }
    position = entry.end;
  }
  if (position != data_bytes) {
    return DataLoss(StrCat(path, ": data is ", data_bytes, " bytes, expected ", position,
                           " where the last tensor ends"));
  }
  return Status::Ok();
}

}  // namespace

std::string_view SafetensorsName(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "F32";
    case DType::kF16: return "F16";
    case DType::kBf16: return "BF16";
    case DType::kI32: return "I32";
    case DType::kI8: return "I8";
    case DType::kU8: return "U8";
  }
  return "?";
}

Result<DType> SafetensorsDType(std::string_view name) {
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBf16, DType::kI32, DType::kI8, DType::kU8}) {
    if (SafetensorsName(dtype) == name) return dtype;
  }
  return Unimplemented(StrCat("is \"", name, "\", expected F32, F16, BF16, I32, I8 or U8"));
}

Result<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  COMET_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  SafetensorsFile file(std::move(mapped));
  COMET_RETURN_IF_ERROR(file.ReadHeader());
  return file;
}

Status SafetensorsFile::ReadHeader() {
  COMET_ASSIGN_OR_RETURN(const std::span<const std::byte> length,
                         file_.Slice("header length", 0, kLengthBytes));
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, length.data(), kLengthBytes);
  if (header_bytes > kHeaderBytesMax) {
    COMET_RETURN_IF_ERROR(RefusePickle(path(), file_.bytes()));
    return DataLoss(StrCat(path(), ": header length is ", header_bytes, ", expected at most ",
                           kHeaderBytesMax));
  }
  COMET_ASSIGN_OR_RETURN(const std::span<const std::byte> header,
                         file_.Slice("header", kLengthBytes, header_bytes));
  const std::string_view text(reinterpret_cast<const char*>(header.data()), header.size());
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(path(), text, kHeaderDepth));
  const JsonReader root(path(), json);
  COMET_RETURN_IF_ERROR(root.CheckObject());

  const uint64_t data_begin = kLengthBytes + header_bytes;
  const uint64_t data_bytes = static_cast<uint64_t>(num_bytes()) - data_begin;
  std::vector<TensorEntry> entries;
  for (const std::string& name : root.Keys()) {
    if (name == "__metadata__") continue;
    COMET_ASSIGN_OR_RETURN(const JsonReader reader, root.Object(name));
    COMET_ASSIGN_OR_RETURN(TensorEntry entry,
                           ReadEntry(name, reader, StrCat(path(), ".", name), data_bytes));
    entries.push_back(std::move(entry));
  }
  COMET_RETURN_IF_ERROR(CheckCoverage(path(), entries, data_bytes));
  for (const TensorEntry& entry : entries) {
    const std::byte* data = file_.bytes().data() + data_begin + entry.begin;
    const Result<DType> dtype = SafetensorsDType(entry.dtype_name);
    if (dtype.ok()) {
      tensors_.emplace(entry.name, ConstTensorView(data, *dtype, entry.shape));
    } else {
      others_.emplace(entry.name, entry.dtype_name);
    }
  }
  return Status::Ok();
}

Result<ConstTensorView> SafetensorsFile::Find(std::string_view name, DType dtype,
                                              const TensorShape& shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return DataLoss(StrCat(path(), ": ", name, ": is absent, expected ", ToString(dtype), " ",
                           shape.ToString()));
  }
  const ConstTensorView& tensor = found->second;
  if (tensor.dtype() != dtype || tensor.shape().ToString() != shape.ToString()) {
    return DataLoss(StrCat(path(), ": ", name, ": is ", ToString(tensor.dtype()), " ",
                           tensor.shape().ToString(), ", expected ", ToString(dtype), " ",
                           shape.ToString()));
  }
  const std::byte* data = static_cast<const std::byte*>(tensor.data());
  if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(BytesOf(dtype)) != 0) {
    return DataLoss(StrCat(path(), ": ", name, ": begins at byte ", data - file_.bytes().data(),
                           ", expected a multiple of ", BytesOf(dtype)));
  }
  return tensor;
}

}  // namespace comet
