#include "server/commands/bench_shapes.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <string_view>

#include "engine/loader/json_reader.h"
#include "engine/loader/mapped_file.h"
#include "kernels/base/str_cat.h"
#include "server/json/config_file.h"

namespace comet {
namespace {

constexpr int64_t kFileBytesMax = 1 << 20;
constexpr int kChannelsMax = 1 << 20;
constexpr int kCountMax = 1 << 20;  // Of tokens, or of a row op's channels.
constexpr size_t kShapesMax = 1000;
constexpr size_t kTokenCountsMax = 64;

// The reader's faults are a damaged file's; here the file is the user's argument.
template <typename T>
Result<T> AsArgument(Result<T> result) {
  if (result.ok()) return result;
  return InvalidArgument(result.status().message());
}

Result<BenchShape> ReadShape(const JsonReader& reader) {
  BenchShape shape;
  COMET_ASSIGN_OR_RETURN(shape.model, AsArgument(reader.String("model")));
  COMET_ASSIGN_OR_RETURN(shape.layer, AsArgument(reader.String("layer")));
  COMET_ASSIGN_OR_RETURN(const int64_t num_outputs,
                         AsArgument(reader.Int("num_outputs", 1, kChannelsMax)));
  COMET_ASSIGN_OR_RETURN(const int64_t num_inputs,
                         AsArgument(reader.Int("num_inputs", 2, kChannelsMax)));
  shape.num_outputs = static_cast<int>(num_outputs);
  shape.num_inputs = static_cast<int>(num_inputs);
  return shape;
}

Result<int> ParseCount(std::string_view text, int maximum, std::string_view what) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1 || value > maximum) {
    return InvalidArgument(StrCat("bench: ", what, " is '", text, "', expected 1 to ", maximum));
  }
  return value;
}

}  // namespace

Result<BenchShapes> ParseBenchShapes(const std::string& source, const std::string& text) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ParseConfigText(source, text));
  const JsonReader reader(source, json);
  const Status is_object = reader.CheckObject();
  if (!is_object.ok()) return InvalidArgument(is_object.message());
  BenchShapes shapes;
  COMET_ASSIGN_OR_RETURN(shapes.name, AsArgument(reader.String("name")));
  COMET_ASSIGN_OR_RETURN(const std::vector<int64_t> counts,
                         AsArgument(reader.Ints("num_tokens", 1, kCountMax, kTokenCountsMax)));
  for (const int64_t count : counts) shapes.num_tokens.push_back(static_cast<int>(count));
  COMET_ASSIGN_OR_RETURN(const std::vector<JsonReader> rows,
                         AsArgument(reader.Objects("shapes", kShapesMax)));
  for (const JsonReader& row : rows) {
    COMET_ASSIGN_OR_RETURN(BenchShape shape, ReadShape(row));
    shapes.shapes.push_back(std::move(shape));
  }
  if (shapes.num_tokens.empty() || shapes.shapes.empty()) {
    return InvalidArgument(StrCat(source, ": num_tokens or shapes is empty, expected some"));
  }
  return shapes;
}

Result<BenchShapes> LoadBenchShapes(const std::string& path) {
  COMET_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kFileBytesMax));
  return ParseBenchShapes(path, text);
}

Result<BenchShape> ParseBenchShape(const std::string& text) {
  const size_t cross = text.find('x');
  if (cross == std::string::npos) {
    return InvalidArgument(
        StrCat("bench: shape is '", text, "', expected outputs x inputs as in 28672x4096"));
  }
  const std::string_view view = text;
  BenchShape shape{.model = "", .layer = text};
  COMET_ASSIGN_OR_RETURN(shape.num_outputs,
                         ParseCount(view.substr(0, cross), kChannelsMax, "outputs of a shape"));
  COMET_ASSIGN_OR_RETURN(shape.num_inputs,
                         ParseCount(view.substr(cross + 1), kChannelsMax, "inputs of a shape"));
  return shape;
}

Result<std::vector<int>> ParseCounts(const std::string& text, std::string_view what) {
  std::vector<int> counts;
  std::string_view rest = text;
  while (true) {
    const size_t comma = rest.find(',');
    COMET_ASSIGN_OR_RETURN(const int count, ParseCount(rest.substr(0, comma), kCountMax, what));
    counts.push_back(count);
    if (comma == std::string_view::npos) return counts;
    rest.remove_prefix(comma + 1);
  }
}

}  // namespace comet
