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

// Such a folder cannot be renamed. Kernels before 5.8 do not tell the root of a mount; of their
// mounts those are found that have another device than the parent.
bool IsMountPoint(const std::string& folder) {
  struct statx info {};
  if (::statx(AT_FDCWD, folder.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &info) != 0) {
    return false;
  }
  if ((info.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0) {
    return (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  }
  struct statx parent {};
  if (::statx(AT_FDCWD, ParentOf(folder).c_str(), 0, STATX_BASIC_STATS, &parent) != 0) return false;
  return info.stx_dev_major != parent.stx_dev_major || info.stx_dev_minor != parent.stx_dev_minor;
}

Status CheckReplaceable(const std::string& folder, const struct stat& info) {
  if (!S_ISDIR(info.st_mode)) {
    return FailedPrecondition(StrCat(folder, ": is not a folder, expected one to replace"));
  }
  if (IsMountPoint(folder)) {
    return FailedPrecondition(StrCat(
        folder, ": is a mount point, expected a folder that can be replaced, such as one in it"));
  }
  std::error_code ignored;
  if (!fs::is_empty(folder, ignored) && !fs::exists(folder + "/config.json", ignored) &&
      !fs::exists(folder + "/model.safetensors", ignored)) {
    return FailedPrecondition(
        StrCat(folder, ": holds no config.json, expected a checkpoint to replace"));
  }
  return Status::Ok();
}

// A leftover carries ".partial-" or ".replaced-" in its name and hurts nobody.
void RemoveFolder(const std::string& folder) {
  std::error_code ignored;
  fs::remove_all(folder, ignored);
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

int SystemRename(const std::string& from, const std::string& to, unsigned flags) {
  return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0 ? 0 : errno;
}

Result<std::unique_ptr<PartialFolder>> PartialFolder::Create(const std::string& folder,
                                                             bool may_replace, RenameCall rename) {
  std::string target = folder;
  while (target.size() > 1 && target.back() == '/') target.pop_back();
  struct stat info;
  if (::lstat(target.c_str(), &info) == 0) {
    if (!may_replace) return FailedPrecondition(StrCat(target, ": exists already"));
    COMET_RETURN_IF_ERROR(CheckReplaceable(target, info));
  }
  std::error_code error;
  fs::create_directories(ParentOf(target), error);
  if (error) return SystemError(ParentOf(target), "mkdir", error.value());
  std::string partial = target + ".partial-XXXXXX";
  if (::mkdtemp(partial.data()) == nullptr) return SystemError(partial, "mkdtemp", errno);
  ::chmod(partial.c_str(),
          0755);  // mkdtemp() makes it private; a checkpoint is an ordinary folder.
  return std::unique_ptr<PartialFolder>(
      new PartialFolder(std::move(target), std::move(partial), may_replace, std::move(rename)));
}

PartialFolder::~PartialFolder() {
  if (!is_kept_) RemoveFolder(partial_);
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
  Keep();
  Status status = SyncFolder(partial_);
  if (status.ok()) status = TakeName();
  if (!status.ok()) {
    return Status(status.code(),
                  StrCat(status.message(), "; what was written is kept as ", partial_));
  }
  COMET_RETURN_IF_ERROR(SyncFolder(ParentOf(folder_)));
  // Not before the new name is durable.
  if (!replaced_.empty()) RemoveFolder(replaced_);
  return Status::Ok();
}

// Renames what was written, whole; replaced_ is then where what it replaced lies.
Status PartialFolder::TakeName() {
  // The exclusive rename refuses a folder that came into being meanwhile.
  int error = rename_(partial_, folder_, may_replace_ ? RENAME_EXCHANGE : RENAME_NOREPLACE);
  if (error == 0) {
    if (may_replace_) replaced_ = partial_;
    return Status::Ok();
  }
  const bool is_missing =
      error == EINVAL || error == ENOSYS;  // The file system has no such rename.
  if (is_missing && may_replace_) return ReplaceInSteps();
  // ENOENT: nothing to exchange with.
  if (is_missing || error == ENOENT) error = rename_(partial_, folder_, 0);
  if (error == 0) return Status::Ok();
  if (error == EEXIST || error == ENOTEMPTY) {
    return FailedPrecondition(StrCat(folder_, ": exists already"));
  }
  return SystemError(folder_, "rename", error);
}

// At every moment both folders are there, under one name or another.
Status PartialFolder::ReplaceInSteps() {
  // As unique as the temporary name, whose six last letters it takes.
  const std::string aside = StrCat(folder_, ".replaced-", partial_.substr(partial_.size() - 6));
  const int aside_error = rename_(folder_, aside, 0);
  if (aside_error != 0 && aside_error != ENOENT) {
    return SystemError(folder_, "rename", aside_error);
  }
  const int error = rename_(partial_, folder_, 0);
  if (error == 0) {
    replaced_ = aside;
    return Status::Ok();
  }
  const Status status = SystemError(folder_, "rename", error);
  if (aside_error == ENOENT || rename_(aside, folder_, 0) == 0) return status;
  return Status(status.code(), StrCat(status.message(), "; what it replaces is kept as ", aside));
}

}  // namespace comet
