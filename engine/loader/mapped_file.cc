#include "engine/loader/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

Status SystemError(const std::string& path, std::string_view call, int error) {
  const std::string message = StrCat(path, ": ", call, " failed: ", std::strerror(error));
  return error == ENOENT || error == ENOTDIR ? NotFound(message) : Internal(message);
}

}  // namespace

Result<MappedFile> MappedFile::Open(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return SystemError(path, "open", errno);
  struct stat info;
  if (::fstat(descriptor, &info) != 0) {
    const int error = errno;
    ::close(descriptor);
    return SystemError(path, "fstat", error);
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(descriptor);
    return InvalidArgument(StrCat(path, ": is not a regular file"));
  }
  MappedFile file;
  file.path_ = path;
  file.num_bytes_ = info.st_size;
  if (info.st_size > 0) {  // An empty mapping is an error to mmap, an empty span is not.
    void* data =
        ::mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0);
    const int error = errno;
    if (data == MAP_FAILED) {
      ::close(descriptor);
      file.num_bytes_ = 0;
      return SystemError(path, "mmap", error);
    }
    file.data_ = data;
  }
  ::close(descriptor);
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(num_bytes_));
}

Result<std::span<const std::byte>> MappedFile::Slice(std::string_view what, uint64_t offset,
                                                     uint64_t length) const {
  const uint64_t size = static_cast<uint64_t>(num_bytes_);
  if (offset > size || length > size - offset) {
    return DataLoss(StrCat(path_, ": ", what, " is ", length, " bytes at ", offset,
                           ", expected to end within the file's ", size, " bytes"));
  }
  return bytes().subspan(offset, length);
}

Result<std::string> ReadTextFile(const std::string& path, int64_t num_bytes_max) {
  COMET_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.num_bytes() > num_bytes_max) {
    return DataLoss(
        StrCat(path, ": size is ", file.num_bytes(), " bytes, expected at most ", num_bytes_max));
  }
  if (file.num_bytes() == 0) return std::string();
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

Result<std::optional<std::string>> ReadOptionalTextFile(const std::string& path,
                                                        int64_t num_bytes_max) {
  Result<std::string> text = ReadTextFile(path, num_bytes_max);
  if (text.ok()) return std::optional<std::string>(std::move(text).value());
  if (text.status().code() == StatusCode::kNotFound) return std::optional<std::string>();
  return text.status();
}

}  // namespace comet
