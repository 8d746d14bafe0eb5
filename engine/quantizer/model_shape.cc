#include "engine/quantizer/model_shape.h"

#include <filesystem>
#include <memory>

#include "engine/loader/float_source.h"
#include "engine/loader/folder_config.h"

namespace comet {
namespace {

ModelShape ShapeOf(const FolderConfig& config) {
  return {.config = config.model, .has_qkv_bias = config.has_qkv_bias};
}

}  // namespace

Result<ModelShape> ReadModelShape(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;  // What cannot be looked at is opened as a file, which says why.
  if (fs::is_directory(path, ignored)) {
    COMET_ASSIGN_OR_RETURN(const FolderConfig config, ReadFolderConfig(path));
    return ShapeOf(config);
  }
  if (fs::path(path).extension() == ".json") {
    COMET_ASSIGN_OR_RETURN(const FolderConfig config, ReadFolderConfigFile(path));
    return ShapeOf(config);
  }
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<FloatSource> source, FloatSource::Open(path));
  COMET_ASSIGN_OR_RETURN(const FloatLayer layer, source->ReadLayer(0));
  return ModelShape{.config = source->config(), .has_qkv_bias = !layer.qkv_bias.empty()};
}

}  // namespace comet
