#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/loader/safetensors_file.h"
#include "kernels/base/status.h"

namespace comet {

// A tensor of a folder and the file it is in.
struct FolderTensor {
  const SafetensorsFile* file = nullptr;
  ConstTensorView view;  // Absent for a dtype that no op takes; maybe unaligned.
  std::string_view dtype;
};

// The file of each tensor, as model.safetensors.index.json states it. Errors: kDataLoss;
// kUnimplemented when a file is a pickle.
Result<std::map<std::string, std::string>> ParseShardIndex(const std::string& where,
                                                           std::string_view text);

// The weights of a Hugging Face folder: model.safetensors, or the shards that
// model.safetensors.index.json names, each with just the tensors that are said to be in it. Mapped,
// so memory is the headers'. Immutable, so thread-safe.
class FolderWeights {
 public:
  // Errors: kNotFound; kDataLoss with file, tensor, got and expected; kUnimplemented when the
  // folder has pickle files instead.
  static Result<FolderWeights> Open(const std::string& folder);

  const std::map<std::string, FolderTensor, std::less<>>& tensors() const { return tensors_; }
  // Null when there is none of that name.
  const FolderTensor* Find(std::string_view name) const;
  const std::string& path() const { return path_; }  // Where a missing tensor was looked for.
  int64_t num_bytes() const;                         // Of all files.

 private:
  Status OpenShards(const std::string& folder, const std::map<std::string, std::string>& shards);
  void AddTensors(const SafetensorsFile& file);

  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, FolderTensor, std::less<>> tensors_;
};

}  // namespace comet
