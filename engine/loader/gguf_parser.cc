#include "engine/loader/gguf_parser.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "engine/loader/pickle_check.h"
#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF", little-endian.
// Real files hold tens of keys and hundreds of tensors (LLaMA-3 405B: 1,137).
constexpr uint64_t kKeysMax = 1 << 16;
constexpr uint64_t kTensorsMax = 1 << 16;
constexpr uint64_t kNameBytesMax = 1 << 16;  // The format's own limit for keys.
constexpr uint32_t kDimsMax = 4;
constexpr uint64_t kAlignmentMax = 1 << 16;
// A tensor's values fit int64_t bytes even as fp32, and an index of them fits 2^40.
constexpr uint64_t kValuesMax = uint64_t{1} << 40;

constexpr uint64_t kKeyBytesMin = 8 + 4 + 1;             // Length, type, the smallest value.
constexpr uint64_t kTensorBytesMin = 8 + 4 + 8 + 4 + 8;  // Name, rank, one dim, type, offset.

// Bytes of one element; of a string, the least it can take.
uint64_t ElementBytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::kU8:
    case GgufValueType::kI8:
    case GgufValueType::kBool: return 1;
    case GgufValueType::kU16:
    case GgufValueType::kI16: return 2;
    case GgufValueType::kU32:
    case GgufValueType::kI32:
    case GgufValueType::kF32: return 4;
    case GgufValueType::kU64:
    case GgufValueType::kI64:
    case GgufValueType::kF64:
    case GgufValueType::kString:
    case GgufValueType::kArray: return 8;
  }
  return 0;
}

}  // namespace

Status GgufParser::Parse() {
  COMET_RETURN_IF_ERROR(ParseHeader());
  COMET_RETURN_IF_ERROR(ParseMetadata());
  COMET_RETURN_IF_ERROR(ReadAlignment());
  for (uint64_t i = 0; i < num_tensors_; ++i) COMET_RETURN_IF_ERROR(ParseTensor(i));
  COMET_RETURN_IF_ERROR(PlaceTensors());
  return CheckOverlaps();
}

Status GgufParser::ParseHeader() {
  uint32_t magic = 0;
  COMET_RETURN_IF_ERROR(Read("magic", magic));
  if (magic != kMagic) {
    COMET_RETURN_IF_ERROR(RefusePickle(file_.path(), bytes_));
    return Fail("magic", StrCat("is ", magic, ", expected ", kMagic, " (GGUF)"));
  }
  uint32_t version = 0;
  COMET_RETURN_IF_ERROR(Read("version", version));
  if (version != 2 && version != 3) {
    const bool is_swapped = version != 0 && (version & 0xffff) == 0;
    return Unimplemented(StrCat(file_.path(), ": version is ", version,
                                is_swapped ? " (a big-endian file)" : "", ", expected 2 or 3"));
  }
  file_.version_ = version;
  COMET_RETURN_IF_ERROR(ReadCount("tensor_count", kTensorBytesMin, kTensorsMax, num_tensors_));
  return ReadCount("kv_count", kKeyBytesMin, kKeysMax, num_keys_);
}

Status GgufParser::ParseMetadata() {
  for (uint64_t i = 0; i < num_keys_; ++i) {
    std::string_view key;
    COMET_RETURN_IF_ERROR(ReadString(StrCat("key ", i), kNameBytesMax, key));
    GgufValue value;
    COMET_RETURN_IF_ERROR(ParseValue(key, value));
    if (!file_.metadata_.emplace(key, value).second) {
      return Fail(key, "is there twice, expected once");
    }
  }
  return Status::Ok();
}

Status GgufParser::ParseValue(std::string_view key, GgufValue& value) {
  uint32_t type = 0;
  COMET_RETURN_IF_ERROR(Read(key, type));
  value.is_array = type == static_cast<uint32_t>(GgufValueType::kArray);
  if (value.is_array) COMET_RETURN_IF_ERROR(Read(key, type));
  if (type > static_cast<uint32_t>(GgufValueType::kF64) ||
      type == static_cast<uint32_t>(GgufValueType::kArray)) {
    return Fail(key, StrCat(value.is_array ? "has elements of type " : "has type ", type,
                            ", expected 0 to 8 or 10 to 12"));
  }
  value.type = static_cast<GgufValueType>(type);
  if (value.is_array) {
    COMET_RETURN_IF_ERROR(
        ReadCount(key, ElementBytes(value.type), std::numeric_limits<int32_t>::max(), value.count));
  }
  const uint64_t begin = position_;
  COMET_RETURN_IF_ERROR(SkipElements(key, value));
  value.data = bytes_.subspan(begin, position_ - begin);
  return Status::Ok();
}

Status GgufParser::SkipElements(std::string_view key, const GgufValue& value) {
  if (value.type == GgufValueType::kString) {
    for (uint64_t i = 0; i < value.count; ++i) {
      std::string_view text;
      COMET_RETURN_IF_ERROR(ReadString(key, bytes_.size(), text));
    }
    return Status::Ok();
  }
  // Count times size cannot overflow: ReadCount() has bounded the count by the file's size.
  const uint64_t num_bytes = value.count * ElementBytes(value.type);
  if (num_bytes > num_bytes_left()) {
    return Fail(key, StrCat("is ", num_bytes, " bytes at ", position_,
                            ", expected to end within the file's ", bytes_.size(), " bytes"));
  }
  position_ += num_bytes;
  return Status::Ok();
}

Status GgufParser::ReadAlignment() {
  COMET_ASSIGN_OR_RETURN(const std::optional<int64_t> alignment,
                         file_.FindInt("general.alignment"));
  if (!alignment.has_value()) return Status::Ok();
  const uint64_t value = static_cast<uint64_t>(*alignment);
  if (value == 0 || value > kAlignmentMax || (value & (value - 1)) != 0) {
    return Fail("general.alignment",
                StrCat("is ", *alignment, ", expected a power of two up to ", kAlignmentMax));
  }
  alignment_ = value;
  return Status::Ok();
}

Status GgufParser::ParseTensor(uint64_t tensor_idx) {
  GgufTensor tensor;
  COMET_RETURN_IF_ERROR(
      ReadString(StrCat("name of tensor ", tensor_idx), kNameBytesMax, tensor.name));
  uint32_t rank = 0;
  COMET_RETURN_IF_ERROR(Read(tensor.name, rank));
  if (rank < 1 || rank > kDimsMax) {
    return Fail(tensor.name, StrCat("has ", rank, " dimensions, expected 1 to ", kDimsMax));
  }
  tensor.dims.resize(rank);
  uint64_t num_values = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    uint64_t dim = 0;
    COMET_RETURN_IF_ERROR(Read(tensor.name, dim));
    if (dim < 1 || dim > std::numeric_limits<int32_t>::max() || dim > kValuesMax / num_values) {
      return Fail(tensor.name, StrCat("has dimension ", dim,
                                      ", expected 1 to 2^31 - 1 and at most "
                                      "2^40 values"));
    }
    num_values *= dim;
    tensor.dims[rank - 1 - i] = static_cast<int>(dim);
  }
  uint32_t type = 0;
  COMET_RETURN_IF_ERROR(Read(tensor.name, type));
  tensor.type = static_cast<GgufTensorType>(type);
  const bool is_known = IsKnown(tensor.type);
  if (is_known && tensor.dims.back() % GroupValues(tensor.type) != 0) {
    return Fail(tensor.name, StrCat("has rows of ", tensor.dims.back(),
                                    " values, expected whole "
                                    "groups of ",
                                    GroupValues(tensor.type)));
  }
  TensorPlace place{};
  COMET_RETURN_IF_ERROR(Read(tensor.name, place.offset));
  if (is_known) {
    place.num_bytes = num_values / static_cast<uint64_t>(GroupValues(tensor.type)) *
                      static_cast<uint64_t>(GroupBytes(tensor.type));
  }
  if (!file_.tensor_index_.emplace(tensor.name, file_.tensors_.size()).second) {
    return Fail(tensor.name, "is there twice, expected once");
  }
  file_.tensors_.push_back(std::move(tensor));
  places_.push_back(place);
  return Status::Ok();
}

// The data section starts at the first multiple of the alignment after the header.
Status GgufParser::PlaceTensors() {
  const uint64_t base = AlignUp(position_, alignment_);
  for (size_t i = 0; i < places_.size(); ++i) {
    const TensorPlace& place = places_[i];
    GgufTensor& tensor = file_.tensors_[i];
    if (place.offset % alignment_ != 0) {
      return Fail(tensor.name,
                  StrCat("has offset ", place.offset, ", expected a multiple of ", alignment_));
    }
    if (base > bytes_.size() || place.offset > bytes_.size() - base) {
      return Fail(tensor.name, StrCat("has offset ", place.offset, " from byte ", base,
                                      ", expected it within the file's ", bytes_.size(), " bytes"));
    }
    COMET_ASSIGN_OR_RETURN(tensor.data,
                           file_.file_.Slice(tensor.name, base + place.offset, place.num_bytes));
  }
  return Status::Ok();
}

Status GgufParser::CheckOverlaps() const {
  std::vector<size_t> order(places_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return places_[a].offset < places_[b].offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorPlace& before = places_[order[i - 1]];
    if (before.offset + before.num_bytes > places_[order[i]].offset) {
      return Fail(file_.tensors_[order[i]].name,
                  StrCat("has offset ", places_[order[i]].offset, ", expected at least ",
                         before.offset + before.num_bytes, " where ",
                         file_.tensors_[order[i - 1]].name, " ends"));
    }
  }
  return Status::Ok();
}

template <typename T>
Status GgufParser::Read(std::string_view field, T& value) {
  if (sizeof(T) > num_bytes_left()) {
    return Fail(field, StrCat("ends at byte ", bytes_.size(), ", expected ", sizeof(T),
                              " bytes at ", position_));
  }
  std::memcpy(&value, bytes_.data() + position_, sizeof(T));
  position_ += sizeof(T);
  return Status::Ok();
}

Status GgufParser::ReadString(std::string_view field, uint64_t num_bytes_max,
                              std::string_view& value) {
  uint64_t length = 0;
  COMET_RETURN_IF_ERROR(Read(field, length));
  const uint64_t limit = std::min(num_bytes_max, num_bytes_left());
  if (length > limit) {
    return Fail(field, StrCat("has ", length, " bytes, expected at most ", limit));
  }
  value = {reinterpret_cast<const char*>(bytes_.data() + position_), length};
  position_ += length;
  return Status::Ok();
}

Status GgufParser::ReadCount(std::string_view field, uint64_t item_bytes, uint64_t count_max,
                             uint64_t& count) {
  COMET_RETURN_IF_ERROR(Read(field, count));
  const uint64_t limit = std::min(count_max, num_bytes_left() / item_bytes);
  if (count > limit) {
    return Fail(field, StrCat("has count ", count, ", expected at most ", limit, " in a file of ",
                              bytes_.size(), " bytes"));
  }
  return Status::Ok();
}

Status GgufParser::Fail(std::string_view field, const std::string& problem) const {
  return DataLoss(StrCat(file_.path(), ": ", field, ": ", problem));
}

}  // namespace comet
