#include "engine/loader/output_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

namespace fs = std::filesystem;

Status SystemError(const std::string& path, std::string_view call, int error) {
  const std::string message = StrCat(path, ": ", call, " failed: ", std::strerror(error));
  // EFBIG: the process's or the file system's largest file.
  const bool is_full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return is_full ? ResourceExhausted(message) : Internal(message);
}

Status SyncFolder(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return SystemError(path, "open", errno);
  const int result = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  return result == 0 ? Status::Ok() : SystemError(path, "fsync", error);
}

std::string ParentOf(const std::string& folder) {
  const fs::path parent = fs::path(folder).parent_path();
  return parent.empty() ? "." : parent.string();
}

}  // namespace

Result<OutputFile> OutputFile::Create(const std::string& path) {
  OutputFile file;
  file.path_ = path;
  file.descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file.descriptor_ < 0) return SystemError(path, "open", errno);
  return file;
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Status OutputFile::WriteAt(int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return SystemError(path_, "pwrite", written < 0 ? errno : EIO);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += written;
  }
  return Status::Ok();
}

Status OutputFile::SyncAndClose() {
  const int descriptor = std::exchange(descriptor_, -1);
  const int sync_error = ::fsync(descriptor) == 0 ? 0 : errno;
  const int close_error = ::close(descriptor) == 0 ? 0 : errno;
  if (sync_error != 0) return SystemError(path_, "fsync", sync_error);
  if (close_error != 0) return SystemError(path_, "close", close_error);
  return Status::Ok();
}

Status WriteTextFile(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  return file ? Status::Ok() : Internal(StrCat(path, ": cannot be written"));
}

Result<std::unique_ptr<PartialFolder>> PartialFolder::Create(const std::string& folder,
                                                             bool may_replace) {
  std::string target = folder;
  while (target.size() > 1 && target.back() == '/') target.pop_back();
  struct stat info;
  if (::lstat(target.c_str(), &info) == 0) {
    if (!may_replace) return FailedPrecondition(StrCat(target, ": exists already"));
    if (!S_ISDIR(info.st_mode)) {
      return FailedPrecondition(StrCat(target, ": is not a folder, expected one to replace"));
    }
    std::error_code ignored;
    if (!fs::is_empty(target, ignored) && !fs::exists(target + "/config.json", ignored) &&
        !fs::exists(target + "/model.safetensors", ignored)) {
      return FailedPrecondition(
          StrCat(target, ": holds no config.json, expected a checkpoint to replace"));
    }
  }
  std::error_code error;
  fs::create_directories(ParentOf(target), error);
  if (error) return SystemError(ParentOf(target), "mkdir", error.value());
  std::string partial = target + ".partial-XXXXXX";
  if (::mkdtemp(partial.data()) == nullptr) return SystemError(partial, "mkdtemp", errno);
  ::chmod(partial.c_str(),
          0755);  // mkdtemp() makes it private; a checkpoint is an ordinary folder.
  return std::unique_ptr<PartialFolder>(
      new PartialFolder(std::move(target), std::move(partial), may_replace));
}

PartialFolder::~PartialFolder() {
  if (is_published_) return;
  std::error_code ignored;  // A leftover carries ".partial-" in its name and hurts nobody.
  fs::remove_all(partial_, ignored);
}

std::string PartialFolder::PathOf(std::string_view file_name) const {
  return StrCat(partial_, "/", file_name);
}

Status PartialFolder::WriteFile(std::string_view file_name, std::string_view text) {
  COMET_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(PathOf(file_name)));
  COMET_RETURN_IF_ERROR(file.WriteAt(0, std::as_bytes(std::span(text))));
  return file.SyncAndClose();
}

Status PartialFolder::Publish() {
  COMET_RETURN_IF_ERROR(SyncFolder(partial_));
  // The exclusive rename refuses a folder that came into being meanwhile.
  const unsigned flags = may_replace_ ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, folder_.c_str(), flags) == 0) {
    is_published_ = !may_replace_;  // After an exchange the destructor removes the replaced folder.
    return SyncFolder(ParentOf(folder_));
  }
  if (errno == EEXIST) return FailedPrecondition(StrCat(folder_, ": exists already"));
  // ENOENT: nothing to exchange with. EINVAL, ENOSYS: the file system has no such rename.
  if (errno != ENOENT && errno != EINVAL && errno != ENOSYS) {
    return SystemError(folder_, "rename", errno);
  }
  if (may_replace_) {
    std::error_code
        ignored;  // A folder that cannot be removed makes the rename fail, with its reason.
    fs::remove_all(folder_, ignored);
  }
  if (::rename(partial_.c_str(), folder_.c_str()) != 0) {
    return SystemError(folder_, "rename", errno);
  }
  is_published_ = true;
  return SyncFolder(ParentOf(folder_));
}

}  // namespace comet
