#include "engine/loader/safetensors_writer.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "engine/loader/safetensors_file.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"

namespace comet {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kDataAlignment = 64;  // Of the first tensor: a cache line.

}  // namespace

Result<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    const std::string& path, std::vector<SafetensorsSpec> specs) {
  std::ranges::sort(specs, [](const SafetensorsSpec& a, const SafetensorsSpec& b) {
    if (BytesOf(a.dtype) != BytesOf(b.dtype)) return BytesOf(a.dtype) > BytesOf(b.dtype);
    return a.name < b.name;
  });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  int64_t data_bytes = 0;
  for (const SafetensorsSpec& spec : specs) {
    const int64_t begin = data_bytes;
    data_bytes += spec.shape.num_elements() * BytesOf(spec.dtype);
    std::vector<int> dims;
    for (int i = 0; i < spec.shape.rank(); ++i) dims.push_back(spec.shape.dim(i));
    header[spec.name] = {{"dtype", std::string(SafetensorsName(spec.dtype))},
                         {"shape", dims},
                         {"data_offsets", {begin, data_bytes}}};
  }
  std::string text = header.dump();
  text.resize(
      static_cast<size_t>(
          AlignUp(static_cast<int64_t>(text.size()) + kLengthBytes, kDataAlignment) - kLengthBytes),
      ' ');

  COMET_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(path));
  std::unique_ptr<SafetensorsWriter> writer(new SafetensorsWriter(std::move(file)));
  int64_t offset = kLengthBytes + static_cast<int64_t>(text.size());
  for (const SafetensorsSpec& spec : specs) {
    const int64_t num_bytes = spec.shape.num_elements() * BytesOf(spec.dtype);
    const bool is_new = writer->places_.emplace(spec.name, Place{offset, num_bytes, false}).second;
    COMET_CHECK_MSG(is_new, spec.name);
    offset += num_bytes;
  }
  const uint64_t header_bytes = text.size();
  COMET_RETURN_IF_ERROR(writer->file_.WriteAt(0, std::as_bytes(std::span(&header_bytes, 1))));
  COMET_RETURN_IF_ERROR(writer->file_.WriteAt(kLengthBytes, std::as_bytes(std::span(text))));
  return writer;
}

Status SafetensorsWriter::Write(std::string_view name, std::span<const std::byte> bytes) {
  const auto found = places_.find(name);
  COMET_CHECK_MSG(found != places_.end(), name);
  Place& place = found->second;
  COMET_CHECK_MSG(!place.is_written, name);
  COMET_CHECK_MSG(static_cast<int64_t>(bytes.size()) == place.num_bytes, name);
  place.is_written = true;
  return file_.WriteAt(place.offset, bytes);
}

Status SafetensorsWriter::Finish() {
  for (const auto& [name, place] : places_) COMET_CHECK_MSG(place.is_written, name);
  return file_.SyncAndClose();
}

}  // namespace comet
