#include "server/commands/bench_attention.h"

#include <charconv>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/loader/output_file.h"
#include "kernels/base/str_cat.h"
#include "server/commands/progress.h"

namespace comet {
namespace {

using nlohmann::ordered_json;

// The sizes of the project's decode bars, then whole prompts and a chunk after a long history.
constexpr const char* kDefaultShapes =
    "1x32768,16x2048,64x1024,64x4096,256x1024,512x1024,"
    "16x1024x1024,4x4096x4096,2x8192x8192,1x16384x2048";

struct Measured {
  AttentionCase size;
  OpMeasurement measurement;
};

// "16x1024": positive numbers, `num_min` to `num_max` of them.
Result<std::vector<int>> ParseSizes(std::string_view text, size_t num_min, size_t num_max,
                                    std::string_view expected) {
  std::vector<int> sizes;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    int size = 0;
    const auto [next, error] = std::from_chars(at, end, size);
    const bool is_last = next == end;
    if (error != std::errc() || size < 1 || (!is_last && (*next != 'x' || next + 1 == end))) break;
    sizes.push_back(size);
    at = is_last ? end : next + 1;
  }
  if (at != end || sizes.size() < num_min || sizes.size() > num_max) {
    return InvalidArgument(StrCat("bench: size is '", text, "', expected ", expected));
  }
  return sizes;
}

double GigabytesPerSecond(const OpMeasurement& m) {
  return m.num_bytes / m.times.front().us * 1e-3;
}
double Teraflops(const OpMeasurement& m) { return m.num_ops / m.times.front().us * 1e-6; }

ordered_json ToJson(const BenchDevice& device, const Measured& measured) {
  const AttentionCase& size = measured.size;
  const OpMeasurement& m = measured.measurement;
  const KernelTime& time = m.times.front();
  return {{"num_sequences", size.num_sequences},
          {"context_length", size.context_length},
          {"num_queries", size.num_queries},
          {"num_heads", size.num_heads},
          {"num_kv_heads", size.num_kv_heads},
          {"head_dim", size.head_dim},
          {"k_bits", size.format.k_bits},
          {"v_bits", size.format.v_bits},
          {"window", size.window},
          {"us", time.us},
          {"us_min", time.us_min},
          {"us_max", time.us_max},
          {"num_launches", time.num_launches},
          {"num_cache_copies", time.num_weight_copies},
          {"gb_per_s", GigabytesPerSecond(m)},
          {"share_of_copy", GigabytesPerSecond(m) * 1e9 / device.copy_bytes_per_second},
          {"tflops", Teraflops(m)},
          {"sm_clock_mhz", m.sm_clock_mhz}};
}

std::string TableOf(const BenchDevice& device, const std::vector<Measured>& all) {
  char line[256];
  std::snprintf(line, sizeof(line),
                "%s, copy %.2f TB/s\n%8s %9s %9s %10s %5s %9s %8s %6s %7s %6s\n",
                device.description.c_str(), device.copy_bytes_per_second * 1e-12, "batch",
                "context", "queries", "heads", "KV", "us", "GB/s", "copy", "TFLOPS", "MHz");
  std::string table = line;
  for (const Measured& measured : all) {
    const AttentionCase& size = measured.size;
    const OpMeasurement& m = measured.measurement;
    std::snprintf(line, sizeof(line), "%8d %9d %9d %10s %5s %9.2f %8.0f %5.1f%% %7.1f %6.0f\n",
                  size.num_sequences, size.context_length, size.num_queries,
                  StrCat(size.num_heads, "/", size.num_kv_heads, "x", size.head_dim).c_str(),
                  StrCat(size.format.k_bits, "/", size.format.v_bits).c_str(), m.times.front().us,
                  GigabytesPerSecond(m),
                  GigabytesPerSecond(m) * 1e11 / device.copy_bytes_per_second, Teraflops(m),
                  m.sm_clock_mhz);
    table += line;
  }
  return table;
}

}  // namespace

Result<std::vector<AttentionCase>> ParseAttentionCases(const BenchOpsOptions& options) {
  COMET_ASSIGN_OR_RETURN(const std::vector<int> heads,
                         ParseSizes(options.heads, 3, 3, "query heads x KV heads x head_dim"));
  COMET_ASSIGN_OR_RETURN(const std::vector<int> bits,
                         ParseSizes(options.kv_bits, 2, 2, "bits of K x bits of V"));
  if (heads[0] % heads[1] != 0) {
    return InvalidArgument(StrCat("bench: heads is '", options.heads,
                                  "', expected query heads that are a multiple of KV heads"));
  }
  if (options.window < 0) {
    return InvalidArgument(StrCat("bench: window is ", options.window, ", expected 0 or more"));
  }
  std::string_view shapes = kDefaultShapes;
  if (!options.shape.empty()) shapes = options.shape;
  std::vector<AttentionCase> cases;
  for (bool is_last = false; !is_last;) {
    const size_t comma = shapes.find(',');
    const std::string_view shape = shapes.substr(0, comma);
    is_last = comma == std::string_view::npos;
    if (!is_last) shapes.remove_prefix(comma + 1);
    COMET_ASSIGN_OR_RETURN(const std::vector<int> sizes,
                           ParseSizes(shape, 2, 3, "batch x context or batch x context x queries"));
    const int num_queries = sizes.size() == 3 ? sizes[2] : 1;
    if (num_queries > sizes[1]) {
      return InvalidArgument(
          StrCat("bench: size is '", shape, "', expected at most as many queries as context"));
    }
    cases.push_back({.num_heads = heads[0],
                     .num_kv_heads = heads[1],
                     .head_dim = heads[2],
                     .format = {bits[0], bits[1]},
                     .num_sequences = sizes[0],
                     .context_length = sizes[1],
                     .num_queries = num_queries,
                     .window = options.window});
  }
  return cases;
}

Status RunBenchAttention(const BenchOpsOptions& options, const OpBenchOptions& bench_options) {
  COMET_ASSIGN_OR_RETURN(const std::vector<AttentionCase> cases, ParseAttentionCases(options));
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<OpBench> bench, MakeOpBench(bench_options));
  std::vector<Measured> all;
  {
    Progress progress("bench");
    for (const AttentionCase& size : cases) {
      progress.Update(static_cast<int>(all.size()), static_cast<int>(cases.size()),
                      StrCat(size.num_sequences, "x", size.context_length));
      COMET_ASSIGN_OR_RETURN(OpMeasurement measurement, options.op == "attention"
                                                            ? bench->MeasureAttention(size)
                                                            : bench->MeasureRopeAppend(size));
      all.push_back({size, std::move(measurement)});
    }
  }
  const BenchDevice& device = bench->device();
  ordered_json rows = ordered_json::array();
  for (const Measured& measured : all) rows.push_back(ToJson(device, measured));
  const ordered_json json = {{"op", options.op},
                             {"device", device.description},
                             {"copy_bytes_per_second", device.copy_bytes_per_second},
                             {"sizes", std::move(rows)}};
  const std::string text = json.dump(2) + "\n";
  std::printf("%s", options.json == "-" ? text.c_str() : TableOf(device, all).c_str());
  if (options.json.empty() || options.json == "-") return Status::Ok();
  return WriteTextFile(options.json, text);
}

}  // namespace comet
