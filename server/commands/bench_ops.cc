#include "server/commands/bench_ops.h"

#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "engine/loader/output_file.h"
#include "kernels/base/str_cat.h"
#include "server/commands/bench_attention.h"
#include "server/commands/bench_report.h"
#include "server/commands/bench_shapes.h"
#include "server/commands/progress.h"

namespace comet {
namespace {

constexpr const char* kDefaultShapes = "configs/bench/llama3_layers.json";
constexpr const char* kDefaultRowTokens = "1,16,64,256,2048,8192";

// What the option's words stand for.
Result<OpBenchOptions> ToBenchOptions(const BenchOpsOptions& options, bool is_product) {
  OpBenchOptions bench{.int4_share = options.int4_share, .num_repeats = options.num_repeats};
  if (options.policy != "int8" && options.policy != "mixed") {
    return InvalidArgument(
        StrCat("bench: policy is '", options.policy, "', expected int8 or mixed"));
  }
  bench.mode = options.policy == "mixed" ? ActivationMode::kMixed : ActivationMode::kInt8;
  if (options.baseline != "cublaslt" && options.baseline != "policy" &&
      options.baseline != "none") {
    return InvalidArgument(
        StrCat("bench: baseline is '", options.baseline, "', expected cublaslt, policy or none"));
  }
  if (options.baseline == "policy" && options.op != "w4ax_gemm") {
    return InvalidArgument(
        StrCat("bench: op with baseline policy is '", options.op, "', expected w4ax_gemm"));
  }
  bench.has_baselines = is_product && options.baseline == "cublaslt";
  bench.has_other_mode = options.baseline == "policy";
  if (options.has_residual && !is_product) {
    return InvalidArgument(
        StrCat("bench: op with a residual is '", options.op, "', expected a product"));
  }
  bench.has_residual = options.has_residual;
  return bench;
}

std::optional<RowOp> RowOpOf(const std::string& name) {
  if (name == "rms_norm") return RowOp::kRmsNorm;
  if (name == "gather") return RowOp::kGather;
  if (name == "silu_mul") return RowOp::kSiluMul;
  if (name == "embedding") return RowOp::kEmbedding;
  return std::nullopt;
}

std::optional<WeightKind> WeightKindOf(const std::string& name) {
  if (name == "w4ax_gemm") return WeightKind::kW4ax;
  if (name == "int8_gemm") return WeightKind::kInt8;
  return std::nullopt;
}

// The files' shapes, or the one that was named.
Result<std::vector<BenchShapes>> LoadShapes(const BenchOpsOptions& options) {
  std::vector<BenchShapes> groups;
  if (!options.shape.empty()) {
    COMET_ASSIGN_OR_RETURN(BenchShape shape, ParseBenchShape(options.shape));
    groups.push_back({.name = "shape",
                      .num_tokens = {1, 2, 4, 8, 16, 32, 64, 128, 256},
                      .shapes = {std::move(shape)}});
  }
  std::vector<std::string> files = options.shapes;
  if (files.empty() && groups.empty()) files.push_back(kDefaultShapes);
  for (const std::string& file : files) {
    COMET_ASSIGN_OR_RETURN(BenchShapes shapes, LoadBenchShapes(file));
    groups.push_back(std::move(shapes));
  }
  if (!options.num_tokens.empty()) {
    COMET_ASSIGN_OR_RETURN(const std::vector<int> num_tokens,
                           ParseCounts(options.num_tokens, "a number of tokens"));
    for (BenchShapes& group : groups) group.num_tokens = num_tokens;
  }
  return groups;
}

// Each size once, however many rows have it; the rows of every group in their order.
Result<std::vector<BenchGroup>> MeasureProducts(OpBench& bench, WeightKind kind,
                                                const std::vector<BenchShapes>& groups) {
  std::map<std::pair<int, int>, std::map<int, OpMeasurement>> measured;
  int num_all = 0;
  for (const BenchShapes& group : groups) {
    for (const BenchShape& shape : group.shapes) {
      auto& sizes = measured[{shape.num_outputs, shape.num_inputs}];
      for (const int num_tokens : group.num_tokens) {
        num_all += sizes.emplace(num_tokens, OpMeasurement{}).second ? 1 : 0;
      }
    }
  }
  Progress progress("bench");
  int num_done = 0;
  for (auto& [size, sizes] : measured) {
    std::vector<int> num_tokens;
    for (const auto& [tokens, measurement] : sizes) num_tokens.push_back(tokens);
    const std::string name = StrCat(size.first, "x", size.second);
    COMET_ASSIGN_OR_RETURN(
        std::vector<OpMeasurement> measurements,
        bench.MeasureProduct(kind, size.first, size.second, num_tokens, [&](int tokens) {
          progress.Update(++num_done, num_all, StrCat(name, " M ", tokens));
        }));
    for (OpMeasurement& measurement : measurements) {
      sizes[measurement.num_tokens] = std::move(measurement);
    }
  }
  std::vector<BenchGroup> results;
  for (const BenchShapes& group : groups) {
    BenchGroup result{.name = group.name, .num_tokens = group.num_tokens, .rows = {}};
    for (const BenchShape& shape : group.shapes) {
      BenchRow row{.shape = shape, .measurements = {}};
      for (const int num_tokens : group.num_tokens) {
        row.measurements.push_back(measured[{shape.num_outputs, shape.num_inputs}][num_tokens]);
      }
      result.rows.push_back(std::move(row));
    }
    results.push_back(std::move(result));
  }
  return results;
}

Status CheckRowOptions(const BenchOpsOptions& options) {
  if (!options.shapes.empty()) {
    return InvalidArgument(StrCat("bench: shapes is '", options.shapes.front(), "', which ",
                                  options.op, " has no use for, expected --shape CHANNELS"));
  }
  if (options.dtype != "f16" && options.dtype != "f32") {
    return InvalidArgument(StrCat("bench: dtype is '", options.dtype, "', expected f16 or f32"));
  }
  return Status::Ok();
}

Result<std::vector<BenchGroup>> MeasureRows(OpBench& bench, const BenchOpsOptions& options,
                                            RowOp op) {
  const std::string default_channels = op == RowOp::kSiluMul ? "14336" : "4096";
  COMET_ASSIGN_OR_RETURN(const std::vector<int> channels,
                         ParseCounts(options.shape.empty() ? default_channels : options.shape,
                                     StrCat("a number of channels of ", options.op)));
  COMET_ASSIGN_OR_RETURN(
      const std::vector<int> num_tokens,
      ParseCounts(options.num_tokens.empty() ? kDefaultRowTokens : options.num_tokens,
                  "a number of tokens"));
  BenchGroup group{.name = StrCat(options.op, ", ", options.dtype, ", ", options.policy),
                   .num_tokens = num_tokens,
                   .rows = {}};
  for (const int num_channels : channels) {
    const RowOpCase c{.op = op,
                      .dtype = options.dtype == "f16" ? DType::kF16 : DType::kF32,
                      .num_channels = num_channels};
    COMET_ASSIGN_OR_RETURN(std::vector<OpMeasurement> measurements,
                           bench.MeasureRowOp(c, num_tokens));
    group.rows.push_back({.shape = {.model = "",
                                    .layer = options.op,
                                    .num_outputs = num_channels,
                                    .num_inputs = num_channels},
                          .measurements = std::move(measurements)});
  }
  return std::vector<BenchGroup>{std::move(group)};
}

Status Report(const BenchOpsOptions& options, const BenchDevice& device,
              const std::vector<BenchGroup>& groups) {
  nlohmann::ordered_json json = {{"op", options.op},
                                 {"policy", options.policy},
                                 {"int4_share", options.int4_share},
                                 {"residual", options.has_residual}};
  json.update(BenchJson(device, groups));
  const std::string text = json.dump(2) + "\n";
  std::printf("%s", (options.json == "-" ? text : BenchTable(device, groups)).c_str());
  if (!options.json.empty() && options.json != "-") {
    COMET_RETURN_IF_ERROR(WriteTextFile(options.json, text));
  }
  if (options.svg.empty()) return Status::Ok();
  const std::string svg = BenchSvg(groups, "cublaslt_fp16");
  if (svg.empty()) return InvalidArgument("bench: nothing to draw, as no baseline was measured");
  return WriteTextFile(options.svg, svg);
}

}  // namespace

Status RunBenchOps(const BenchOpsOptions& options) {
  if (options.op == "attention" || options.op == "rope_append") {
    COMET_ASSIGN_OR_RETURN(const OpBenchOptions bench, ToBenchOptions(options, false));
    return RunBenchAttention(options, bench);
  }
  const std::optional<RowOp> row_op = RowOpOf(options.op);
  const std::optional<WeightKind> kind = WeightKindOf(options.op);
  if (!row_op.has_value() && !kind.has_value()) {
    return InvalidArgument(StrCat("bench: op is '", options.op,
                                  "', expected w4ax_gemm, int8_gemm, rms_norm, gather, silu_mul, "
                                  "embedding, attention or rope_append"));
  }
  COMET_ASSIGN_OR_RETURN(const OpBenchOptions bench_options,
                         ToBenchOptions(options, kind.has_value()));
  std::vector<BenchShapes> shapes;
  if (kind.has_value()) {
    COMET_ASSIGN_OR_RETURN(shapes, LoadShapes(options));
  } else {
    COMET_RETURN_IF_ERROR(CheckRowOptions(options));
  }
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<OpBench> bench, MakeOpBench(bench_options));
  COMET_ASSIGN_OR_RETURN(const std::vector<BenchGroup> groups,
                         kind.has_value() ? MeasureProducts(*bench, *kind, shapes)
                                          : MeasureRows(*bench, options, *row_op));
  return Report(options, bench->device(), groups);
}

}  // namespace comet
