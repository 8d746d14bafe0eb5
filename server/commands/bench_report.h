#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "kernels/op_bench.h"
#include "server/commands/bench_shapes.h"

namespace comet {

// A shape and what was measured of it, one entry a number of tokens.
struct BenchRow {
  BenchShape shape;
  std::vector<OpMeasurement> measurements;
};

struct BenchGroup {
  std::string name;
  std::vector<int> num_tokens;
  std::vector<BenchRow> rows;
};

// The least time the card could take: traffic at the copy rate, or arithmetic at the INT8 rate of
// the clock that was read, whichever is longer.
double BoundUs(const BenchDevice& device, const OpMeasurement& measurement);

// Another kernel's time over ours; none where it was not measured.
std::optional<double> SpeedupOver(const OpMeasurement& measurement, std::string_view kernel);

// The kernels that some row of the group was compared with, in the order they were measured.
std::vector<std::string> BaselinesOf(const BenchGroup& group);

// The geometric mean of the speed-ups at one number of tokens over every row, repeated shapes
// included; none where no row has one.
std::optional<double> GeomeanSpeedup(const BenchGroup& group, std::string_view kernel,
                                     int num_tokens);

// Everything, for a machine.
nlohmann::ordered_json BenchJson(const BenchDevice& device, const std::vector<BenchGroup>& groups);

// A row a shape and number of tokens, then the geometric means; for a person.
std::string BenchTable(const BenchDevice& device, const std::vector<BenchGroup>& groups);

// A picture: speed-up over `kernel` by number of tokens, a panel a group, a line a shape and the
// geometric mean. Empty where nothing was compared with it.
std::string BenchSvg(const std::vector<BenchGroup>& groups, std::string_view kernel);

}  // namespace comet
