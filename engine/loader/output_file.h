#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/base/status.h"

namespace comet {

// A file being written, created anew. Movable. Confined to one thread.
class OutputFile {
 public:
  // Errors: kInternal naming path and call; kResourceExhausted when the disk is full.
  static Result<OutputFile> Create(const std::string& path);

  OutputFile(OutputFile&& other) noexcept { *this = std::move(other); }
  OutputFile& operator=(OutputFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  Status WriteAt(int64_t offset, std::span<const std::byte> bytes);
  // Makes the content durable. Nothing may be written after it.
  Status SyncAndClose();

 private:
  OutputFile() = default;

  std::string path_;
  int descriptor_ = -1;
};

// A text file as a whole, in place of what is there. Errors: kInternal naming it.
Status WriteTextFile(const std::string& path, std::string_view text);

// renameat2(2) between two paths: 0, or the error's number.
using RenameCall =
    std::function<int(const std::string& from, const std::string& to, unsigned flags)>;
int SystemRename(const std::string& from, const std::string& to, unsigned flags);

// A folder that appears under its name whole or not at all: files are written into a sibling
// "<folder>.partial-XXXXXX", which Publish() makes durable and renames. Destroyed before Keep(), it
// removes what it wrote. Confined to one thread.
class PartialFolder {
 public:
  // `rename` stands for the file system's in tests. Errors: kFailedPrecondition when `folder`
  // exists and `may_replace` is false, or is what Publish() could not replace: no folder, no
  // checkpoint, a mount point; kInternal.
  static Result<std::unique_ptr<PartialFolder>> Create(const std::string& folder, bool may_replace,
                                                       RenameCall rename = SystemRename);
  ~PartialFolder();
  PartialFolder(const PartialFolder&) = delete;
  PartialFolder& operator=(const PartialFolder&) = delete;

  // The folder under its temporary name.
  const std::string& path() const { return partial_; }
  // Where to write a file of that name.
  std::string PathOf(std::string_view file_name) const;
  Status WriteFile(std::string_view file_name, std::string_view text);
  // What was written is worth having: from now on it stays, under its temporary name if need be.
  void Keep() { is_kept_ = true; }
  // Keeps; a failure says where. A folder being replaced is exchanged in one step where the file
  // system can, else moved aside until the new one has its name, and then removed.
  Status Publish();

 private:
  PartialFolder(std::string folder, std::string partial, bool may_replace, RenameCall rename)
      : folder_(std::move(folder)),
        partial_(std::move(partial)),
        may_replace_(may_replace),
        rename_(std::move(rename)) {}

  Status TakeName();
  Status ReplaceInSteps();

  std::string folder_;
  std::string partial_;
  bool may_replace_;
  RenameCall rename_;
  bool is_kept_ = false;
  std::string replaced_;  // Empty until there is something to remove.
};

}  // namespace comet
