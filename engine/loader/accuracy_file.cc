#include "engine/loader/accuracy_file.h"

#include <limits>

#include <nlohmann/json.hpp>

#include "engine/loader/checkpoint_format.h"
#include "engine/loader/json_reader.h"
#include "engine/loader/mapped_file.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int64_t kAccuracyBytesMax = 64 << 20;
constexpr int kAccuracyDepth = 8;
constexpr size_t kLayersMax = 4096;
constexpr double kPerplexityMin = 1.0;  // Every prediction certain and right.

// JSON has no NaN: a number that was none is written as null. A missing key is a fault.
Result<double> NumberOrNan(const JsonReader& reader, std::string_view key, double smallest) {
  constexpr double kLargest = std::numeric_limits<double>::max();
  for (const std::string& present : reader.Keys()) {
    if (present == key && !reader.Has(key)) return std::numeric_limits<double>::quiet_NaN();
  }
  return reader.Number(key, smallest, kLargest);
}

Result<LinearErrors> ParseLinear(const JsonReader& layer, std::string_view name) {
  COMET_ASSIGN_OR_RETURN(const JsonReader reader, layer.Object(name));
  LinearErrors errors;
  COMET_ASSIGN_OR_RETURN(errors.weight, NumberOrNan(reader, "weight_error", 0.0));
  COMET_ASSIGN_OR_RETURN(errors.output_8, NumberOrNan(reader, "output_error_8", 0.0));
  COMET_ASSIGN_OR_RETURN(errors.output_mixed, NumberOrNan(reader, "output_error_mixed", 0.0));
  COMET_ASSIGN_OR_RETURN(errors.int4_share, reader.Number("int4_share", 0.0, 1.0));
  return errors;
}

Result<HeldOutPerplexity> ParseHeldOut(const JsonReader& root) {
  COMET_ASSIGN_OR_RETURN(const JsonReader reader, root.Object("held_out"));
  HeldOutPerplexity held_out;
  COMET_ASSIGN_OR_RETURN(held_out.num_predictions,
                         reader.Int("predictions", 1, std::numeric_limits<int64_t>::max()));
  COMET_ASSIGN_OR_RETURN(held_out.source, NumberOrNan(reader, "perplexity_float", kPerplexityMin));
  COMET_ASSIGN_OR_RETURN(held_out.int8, NumberOrNan(reader, "perplexity_8", kPerplexityMin));
  COMET_ASSIGN_OR_RETURN(held_out.mixed, NumberOrNan(reader, "perplexity_mixed", kPerplexityMin));
  return held_out;
}

}  // namespace

Result<AccuracyFile> ParseAccuracyFile(const std::string& where, std::string_view text) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(where, text, kAccuracyDepth));
  const JsonReader root(where, json);
  COMET_RETURN_IF_ERROR(root.CheckObject());
  AccuracyFile file;
  COMET_ASSIGN_OR_RETURN(const std::vector<JsonReader> layers, root.Objects("layers", kLayersMax));
  for (const JsonReader& layer : layers) {
    auto& linears = file.layers.emplace_back();
    for (size_t i = 0; i < kAccuracyLinears.size(); ++i) {
      COMET_ASSIGN_OR_RETURN(linears[i], ParseLinear(layer, kAccuracyLinears[i]));
    }
  }
  if (root.Has("held_out")) {
    COMET_ASSIGN_OR_RETURN(file.held_out, ParseHeldOut(root));
  }
  return file;
}

Result<AccuracyFile> ReadAccuracyFile(const std::string& folder) {
  const std::string path = StrCat(folder, "/", kAccuracyFile);
  COMET_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kAccuracyBytesMax));
  return ParseAccuracyFile(path, text);
}

}  // namespace comet
