#include "engine/loader/folder_weights.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/loader/json_reader.h"
#include "engine/loader/mapped_file.h"
#include "engine/loader/pickle_check.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
constexpr int64_t kIndexBytesMax = 16 << 20;  // Published ones have up to 10 MB.
constexpr int kIndexDepth = 8;
constexpr size_t kShardsMax = 4096;

// Why a folder has none of the files that are read: pickles, or Mistral's own layout.
Status NoWeights(const std::string& folder) {
  std::set<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.insert(it->path().filename().string());
  }
  for (const std::string& name : names) {
    COMET_RETURN_IF_ERROR(RefusePickleName(StrCat(folder, "/", name)));
    if (name.starts_with("consolidated") && name.ends_with(".safetensors")) {
      return Unimplemented(StrCat(folder, "/", name,
                                  ": has its maker's own tensor names, expected ", kSingleFile,
                                  " or ", kIndexFile, " with Hugging Face's"));
    }
  }
  return NotFound(StrCat(folder, ": has no weights, expected ", kSingleFile, " or ", kIndexFile));
}

bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos && name.ends_with(".safetensors");
}

}  // namespace

Result<std::map<std::string, std::string>> ParseShardIndex(const std::string& where,
                                                           std::string_view text) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(where, text, kIndexDepth));
  const JsonReader root(where, json);
  COMET_RETURN_IF_ERROR(root.CheckObject());
  COMET_ASSIGN_OR_RETURN(const JsonReader map, root.Object("weight_map"));
  std::map<std::string, std::string> shards;
  std::set<std::string> files;
  for (const std::string& tensor : map.Keys()) {
    COMET_ASSIGN_OR_RETURN(std::string file, map.String(tensor));
    COMET_RETURN_IF_ERROR(RefusePickleName(file));
    if (!IsPlainFileName(file)) {
      return DataLoss(StrCat(map.where(), ".", tensor, ": is \"", file.substr(0, 100),
                             "\", expected the name of a .safetensors file in the folder"));
    }
    files.insert(file);
    shards.emplace(tensor, std::move(file));
  }
  if (files.size() > kShardsMax) {
    return DataLoss(
        StrCat(map.where(), ": names ", files.size(), " files, expected at most ", kShardsMax));
  }
  return shards;
}

Result<FolderWeights> FolderWeights::Open(const std::string& folder) {
  FolderWeights weights;
  weights.path_ = StrCat(folder, "/", kIndexFile);
  const Result<std::string> index = ReadTextFile(weights.path_, kIndexBytesMax);
  if (index.ok()) {
    COMET_ASSIGN_OR_RETURN(const auto shards, ParseShardIndex(weights.path_, *index));
    COMET_RETURN_IF_ERROR(weights.OpenShards(folder, shards));
    return weights;
  }
  if (index.status().code() != StatusCode::kNotFound) return index.status();
  weights.path_ = StrCat(folder, "/", kSingleFile);
  Result<SafetensorsFile> file = SafetensorsFile::Open(weights.path_);
  if (file.status().code() == StatusCode::kNotFound) return NoWeights(folder);
  if (!file.ok()) return file.status();
  weights.files_.push_back(std::move(file).value());
  weights.AddTensors(weights.files_.back());
  return weights;
}

Status FolderWeights::OpenShards(const std::string& folder,
                                 const std::map<std::string, std::string>& shards) {
  std::set<std::string> names;
  for (const auto& [tensor, file] : shards) names.insert(file);
  files_.reserve(names.size());  // Tensors point into it.
  for (const std::string& name : names) {
    COMET_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(StrCat(folder, "/", name)));
    files_.push_back(std::move(file));
    const size_t num_before = tensors_.size();
    AddTensors(files_.back());
    const size_t num_added = files_.back().tensors().size() + files_.back().others().size();
    if (tensors_.size() != num_before + num_added) {
      return DataLoss(StrCat(files_.back().path(), ": has a tensor that another shard has too"));
    }
  }
  for (const auto& [name, file] : shards) {
    const FolderTensor* tensor = Find(name);
    const std::string expected = StrCat(folder, "/", file);
    if (tensor == nullptr || tensor->file->path() != expected) {
      return DataLoss(StrCat(path_, ".weight_map.", name, ": is \"", file,
                             "\", expected a file that has this tensor"));
    }
  }
  for (const auto& [name, tensor] : tensors_) {
    if (!shards.contains(name)) {
      return DataLoss(
          StrCat(tensor.file->path(), ": ", name, ": is not named in weight_map of ", path_));
    }
  }
  return Status::Ok();
}

void FolderWeights::AddTensors(const SafetensorsFile& file) {
  for (const auto& [name, view] : file.tensors()) {
    tensors_.emplace(name, FolderTensor{&file, view, SafetensorsName(view.dtype())});
  }
  for (const auto& [name, dtype] : file.others()) {
    tensors_.emplace(name, FolderTensor{&file, {}, dtype});
  }
}

const FolderTensor* FolderWeights::Find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

int64_t FolderWeights::num_bytes() const {
  int64_t bytes = 0;
  for (const SafetensorsFile& file : files_) bytes += file.num_bytes();
  return bytes;
}

}  // namespace comet
