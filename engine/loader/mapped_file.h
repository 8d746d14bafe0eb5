#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/base/status.h"

namespace comet {

// A whole file mapped read-only. Movable; spans of it are valid while it lives, also after a move.
// The file must not shrink meanwhile: reading a page that is gone kills the process, which is why
// checkpoints are replaced by rename and never rewritten in place. Immutable, so thread-safe.
class MappedFile {
 public:
  // Errors: kNotFound; kInvalidArgument when it is not a regular file; kInternal naming the call.
  static Result<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(data_, other.data_);
    std::swap(num_bytes_, other.num_bytes_);
    return *this;
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const { return path_; }
  int64_t num_bytes() const { return num_bytes_; }
  std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(data_), static_cast<size_t>(num_bytes_)};
  }

  // Bytes [offset, offset + length). Errors: kDataLoss naming the file, `what`, and both ends.
  Result<std::span<const std::byte>> Slice(std::string_view what, uint64_t offset,
                                           uint64_t length) const;

 private:
  MappedFile() = default;

  std::string path_;
  void* data_ = nullptr;
  int64_t num_bytes_ = 0;
};

// A small text file as a whole. Errors: kNotFound; kDataLoss above `num_bytes_max`.
Result<std::string> ReadTextFile(const std::string& path, int64_t num_bytes_max);
// The same; nothing where there is no such file.
Result<std::optional<std::string>> ReadOptionalTextFile(const std::string& path,
                                                        int64_t num_bytes_max);

}  // namespace comet
