#include "engine/loader/output_file.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <set>
#include <string>

#include "tests/engine/checkpoint/test_files.h"

namespace comet {
namespace {

namespace fs = std::filesystem;

// As NFS and many FUSE file systems do.
int RenameWithoutFlags(const std::string& from, const std::string& to, unsigned flags) {
  return flags != 0 ? EINVAL : SystemRename(from, to, 0);
}

// A folder of one file, which could be a checkpoint.
void MakeFolder(const std::string& folder, const std::string& config) {
  fs::create_directory(folder);
  WriteBytes(folder + "/config.json", config);
}

// Publishes a folder whose config.json reads "new" as `folder`; `partial` becomes its temporary
// name.
Status Replace(const std::string& folder, const RenameCall& rename, std::string& partial) {
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<PartialFolder> written,
                         PartialFolder::Create(folder, /*may_replace=*/true, rename));
  partial = written->path();
  COMET_RETURN_IF_ERROR(written->WriteFile("config.json", "new"));
  return written->Publish();
}

std::set<std::string> NamesIn(const std::string& folder) {
  std::set<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

TEST(PartialFolder, ReplacesWhereTheFileSystemCannotExchange) {
  const TempFolder temp;
  const std::string folder = temp.PathOf("model");
  MakeFolder(folder, "old");
  std::string partial;

  const Status status = Replace(folder, RenameWithoutFlags, partial);

  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(ReadBytes(folder + "/config.json"), "new");
  EXPECT_EQ(NamesIn(temp.PathOf("")), std::set<std::string>{"model"});
}

TEST(PartialFolder, PublishesWhereTheFileSystemHasPlainRenamesOnly) {
  for (const bool may_replace : {false, true}) {
    const TempFolder temp;
    const std::string folder = temp.PathOf("model");
    const Result<std::unique_ptr<PartialFolder>> written =
        PartialFolder::Create(folder, may_replace, RenameWithoutFlags);
    ASSERT_TRUE(written.ok()) << written.status();

    const Status status = (*written)->Publish();

    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(NamesIn(temp.PathOf("")), std::set<std::string>{"model"});
  }
}

TEST(PartialFolder, LosesNeitherFolderWhenTheNewOneCannotBeRenamed) {
  const TempFolder temp;
  const std::string folder = temp.PathOf("model");
  MakeFolder(folder, "old");
  std::string partial;

  const Status status = Replace(
      folder,
      [](const std::string& from, const std::string& to, unsigned flags) {
        const bool is_new = from.find(".partial-") != std::string::npos;
        return flags == 0 && is_new ? EIO : RenameWithoutFlags(from, to, flags);
      },
      partial);

  EXPECT_EQ(status.code(), StatusCode::kInternal) << status;
  EXPECT_NE(status.message().find(partial), std::string::npos) << status;
  EXPECT_EQ(ReadBytes(folder + "/config.json"), "old");
  EXPECT_EQ(ReadBytes(partial + "/config.json"), "new");
}

TEST(PartialFolder, NamesBothFoldersWhenTheOldOneCannotGoBack) {
  const TempFolder temp;
  const std::string folder = temp.PathOf("model");
  MakeFolder(folder, "old");
  std::string partial;

  const Status status = Replace(
      folder,
      [&](const std::string& from, const std::string& to, unsigned flags) {
        return flags == 0 && to == folder ? EIO : RenameWithoutFlags(from, to, flags);
      },
      partial);

  EXPECT_EQ(status.code(), StatusCode::kInternal) << status;
  for (const std::string& name : NamesIn(temp.PathOf(""))) {
    EXPECT_NE(status.message().find(name), std::string::npos) << name << ": " << status;
  }
  EXPECT_EQ(NamesIn(temp.PathOf("")).size(), 2u);
}

TEST(PartialFolder, KeepsBothWhenTheOldOneCannotBeMoved) {
  const TempFolder temp;
  const std::string folder = temp.PathOf("model");
  MakeFolder(folder, "old");
  std::string partial;

  const Status status = Replace(
      folder, [](const std::string&, const std::string&, unsigned) { return EBUSY; }, partial);

  EXPECT_EQ(status.code(), StatusCode::kInternal) << status;
  EXPECT_NE(status.message().find(partial), std::string::npos) << status;
  EXPECT_EQ(ReadBytes(folder + "/config.json"), "old");
  EXPECT_EQ(ReadBytes(partial + "/config.json"), "new");
}

// What is known before hours of work is said before it.
TEST(PartialFolder, AMountPointIsRefusedBeforeAnythingIsWritten) {
  const Status status = PartialFolder::Create("/proc", /*may_replace=*/true).status();

  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(status.message().find("mount point"), std::string::npos) << status;
}

}  // namespace
}  // namespace comet
