#include "server/commands/bench_report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "kernels/base/str_cat.h"
#include "server/commands/format_text.h"

namespace comet {
namespace {

using nlohmann::ordered_json;

double Tops(const OpMeasurement& m) { return m.num_ops / m.times.front().us * 1e-6; }
double GigabytesPerSecond(const OpMeasurement& m) {
  return m.num_bytes / m.times.front().us * 1e-3;
}

// "cublaslt_fp16" -> "fp16".
std::string ShortName(const std::string& kernel) {
  const size_t underscore = kernel.find('_');
  return underscore == std::string::npos ? kernel : kernel.substr(underscore + 1);
}

ordered_json MeasurementJson(const BenchDevice& device, const OpMeasurement& m) {
  ordered_json kernels = ordered_json::array();
  for (const KernelTime& time : m.times) {
    ordered_json kernel = {{"kernel", time.kernel},
                           {"us", time.us},
                           {"us_min", time.us_min},
                           {"us_max", time.us_max},
                           {"num_tokens", time.num_tokens},
                           {"num_launches", time.num_launches},
                           {"num_weight_copies", time.num_weight_copies}};
    if (&time != &m.times.front()) kernel["speedup_over"] = time.us / m.times.front().us;
    kernels.push_back(std::move(kernel));
  }
  return {{"num_tokens", m.num_tokens},
          {"us", m.times.front().us},
          {"tops", Tops(m)},
          {"gb_per_s", GigabytesPerSecond(m)},
          {"sm_clock_mhz", m.sm_clock_mhz},
          {"bound_us", BoundUs(device, m)},
          {"share_of_bound", BoundUs(device, m) / m.times.front().us},
          {"kernels", std::move(kernels)}};
}

ordered_json GeomeansJson(const BenchGroup& group) {
  ordered_json geomeans = ordered_json::array();
  for (const int num_tokens : group.num_tokens) {
    ordered_json entry = {{"num_tokens", num_tokens}};
    for (const std::string& kernel : BaselinesOf(group)) {
      const std::optional<double> speedup = GeomeanSpeedup(group, kernel, num_tokens);
      if (speedup.has_value()) entry[kernel] = *speedup;
    }
    geomeans.push_back(std::move(entry));
  }
  return geomeans;
}

std::string GroupTable(const BenchDevice& device, const BenchGroup& group) {
  const std::vector<std::string> baselines = BaselinesOf(group);
  std::string table =
      FormatText("\n%s\n%-13s %-10s %13s %6s %9s %7s %6s %6s %6s", group.name.c_str(), "model",
                 "layer", "N x K", "M", "us", "TOPS", "GB/s", "MHz", "bound");
  for (const std::string& kernel : baselines) {
    table += FormatText(" %9s %6s", ShortName(kernel).c_str(), "ratio");
  }
  table += "\n";
  for (const BenchRow& row : group.rows) {
    for (const OpMeasurement& m : row.measurements) {
      const std::string size = StrCat(row.shape.num_outputs, "x", row.shape.num_inputs);
      table += FormatText("%-13s %-10s %13s %6d %9.2f %7.1f %6.0f %6.0f %5.1f%%",
                          row.shape.model.c_str(), row.shape.layer.c_str(), size.c_str(),
                          m.num_tokens, m.times.front().us, Tops(m), GigabytesPerSecond(m),
                          m.sm_clock_mhz, 100.0 * BoundUs(device, m) / m.times.front().us);
      for (const std::string& kernel : baselines) {
        const std::optional<double> speedup = SpeedupOver(m, kernel);
        table += speedup.has_value()
                     ? FormatText(" %9.2f %6.2f", *speedup * m.times.front().us, *speedup)
                     : FormatText(" %9s %6s", "-", "-");
      }
      table += "\n";
    }
  }
  for (const std::string& kernel : baselines) {
    table += FormatText("geomean over %s:", kernel.c_str());
    for (const int num_tokens : group.num_tokens) {
      const std::optional<double> speedup = GeomeanSpeedup(group, kernel, num_tokens);
      if (speedup.has_value()) table += FormatText("  M %d %.3f", num_tokens, *speedup);
    }
    table += "\n";
  }
  return table;
}

}  // namespace

double BoundUs(const BenchDevice& device, const OpMeasurement& measurement) {
  const double memory_us = measurement.num_bytes / device.copy_bytes_per_second * 1e6;
  const double ops_per_us =
      device.int8_ops_per_clock_and_sm * device.num_sms * measurement.sm_clock_mhz;
  return ops_per_us > 0 ? std::max(memory_us, measurement.num_ops / ops_per_us) : memory_us;
}

std::optional<double> SpeedupOver(const OpMeasurement& measurement, std::string_view kernel) {
  for (size_t i = 1; i < measurement.times.size(); ++i) {
    const KernelTime& time = measurement.times[i];
    if (time.kernel == kernel) return time.us / measurement.times.front().us;
  }
  return std::nullopt;
}

std::vector<std::string> BaselinesOf(const BenchGroup& group) {
  std::vector<std::string> kernels;
  for (const BenchRow& row : group.rows) {
    for (const OpMeasurement& m : row.measurements) {
      for (size_t i = 1; i < m.times.size(); ++i) {
        const std::string& kernel = m.times[i].kernel;
        if (std::find(kernels.begin(), kernels.end(), kernel) == kernels.end()) {
          kernels.push_back(kernel);
        }
      }
    }
  }
  return kernels;
}

std::optional<double> GeomeanSpeedup(const BenchGroup& group, std::string_view kernel,
                                     int num_tokens) {
  double log_sum = 0;
  int count = 0;
  for (const BenchRow& row : group.rows) {
    for (const OpMeasurement& m : row.measurements) {
      const std::optional<double> speedup = SpeedupOver(m, kernel);
      if (m.num_tokens != num_tokens || !speedup.has_value()) continue;
      log_sum += std::log(*speedup);
      ++count;
    }
  }
  if (count == 0) return std::nullopt;
  return std::exp(log_sum / count);
}

ordered_json BenchJson(const BenchDevice& device, const std::vector<BenchGroup>& groups) {
  ordered_json json_groups = ordered_json::array();
  for (const BenchGroup& group : groups) {
    ordered_json rows = ordered_json::array();
    for (const BenchRow& row : group.rows) {
      ordered_json measurements = ordered_json::array();
      for (const OpMeasurement& m : row.measurements) {
        measurements.push_back(MeasurementJson(device, m));
      }
      rows.push_back({{"model", row.shape.model},
                      {"layer", row.shape.layer},
                      {"num_outputs", row.shape.num_outputs},
                      {"num_inputs", row.shape.num_inputs},
                      {"measurements", std::move(measurements)}});
    }
    json_groups.push_back(
        {{"name", group.name}, {"rows", std::move(rows)}, {"geomeans", GeomeansJson(group)}});
  }
  return {{"device",
           {{"description", device.description},
            {"num_sms", device.num_sms},
            {"copy_bytes_per_second", device.copy_bytes_per_second},
            {"int8_ops_per_clock_and_sm", device.int8_ops_per_clock_and_sm},
            {"clock_source", device.clock_source},
            {"cublaslt", device.cublaslt}}},
          {"groups", std::move(json_groups)}};
}

std::string BenchTable(const BenchDevice& device, const std::vector<BenchGroup>& groups) {
  std::string table =
      FormatText("%s, copy %.2f TB/s, clock from %s, cuBLASLt %s\n", device.description.c_str(),
                 device.copy_bytes_per_second * 1e-12,
                 device.clock_source.empty() ? "nowhere" : device.clock_source.c_str(),
                 device.cublaslt.empty() ? "not measured" : device.cublaslt.c_str());
  for (const BenchGroup& group : groups) table += GroupTable(device, group);
  return table;
}

}  // namespace comet
