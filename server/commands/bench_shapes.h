#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"

namespace comet {

// One matrix product of a model.
struct BenchShape {
  std::string model;
  std::string layer;
  int num_outputs = 0;
  int num_inputs = 0;
};

// What one file of configs/bench/ holds. Shapes may repeat: averages count each.
struct BenchShapes {
  std::string name;
  std::vector<int> num_tokens;
  std::vector<BenchShape> shapes;
};

// Errors: kNotFound: no such file; kInvalidArgument: a fault, named by its path in the file.
Result<BenchShapes> LoadBenchShapes(const std::string& path);
Result<BenchShapes> ParseBenchShapes(const std::string& source, const std::string& text);

// "28672x4096": outputs x inputs.
Result<BenchShape> ParseBenchShape(const std::string& text);
// "1,16,256", ascending order not needed; `what` names one of them in the message.
Result<std::vector<int>> ParseCounts(const std::string& text, std::string_view what);

}  // namespace comet
