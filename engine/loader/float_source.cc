#include "engine/loader/float_source.h"

#include <filesystem>

#include "engine/loader/folder_source.h"
#include "engine/loader/gguf_source.h"
#include "engine/loader/pickle_check.h"
#include "kernels/base/str_cat.h"

namespace comet {

Result<std::unique_ptr<FloatSource>> FloatSource::Open(const std::string& path) {
  std::error_code ignored;  // What cannot be looked at is opened as a file, which says why.
  if (std::filesystem::is_directory(path, ignored)) return OpenFolderSource(path);
  COMET_RETURN_IF_ERROR(CheckFileName(path));
  return OpenGgufSource(path);
}

Status FloatSource::CheckFileName(const std::string& path) {
  COMET_RETURN_IF_ERROR(RefusePickleName(path));
  if (path.ends_with(".safetensors")) {
    return InvalidArgument(
        StrCat(path, ": is one file of a model, expected the folder with its config.json"));
  }
  return Status::Ok();
}

}  // namespace comet
