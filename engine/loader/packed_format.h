#pragma once

#include <string>
#include <string_view>

#include "engine/loader/json_reader.h"
#include "kernels/base/status.h"

namespace comet {

// Who packed the 4-bit linear layers of a folder.
enum class PackedMethod { kNone, kAwq, kGptq, kCompressedTensors };

std::string_view ToString(PackedMethod method);  // "none", "awq", "gptq", "compressed-tensors"

// How: w[n, k] = scale[n, g(k)] * (code[n, k] - zero[n, g(k)]), g(k) = k / group_size or a list.
struct PackedFormat {
  PackedMethod method = PackedMethod::kNone;
  int group_size = 128;  // -1: a whole row.
  // compressed-tensors: absent zero points are 0. gptq: a stored zero point is one less than meant.
  bool is_symmetric = true;
  bool zeros_are_less_one = false;

  int num_groups(int num_inputs) const {
    return group_size < 0 ? 1 : (num_inputs + group_size - 1) / group_size;
  }
};

// From quantization_config of a config.json. Errors: kDataLoss; kUnimplemented naming the key.
Result<PackedFormat> ParsePackedFormat(const JsonReader& quantization);

}  // namespace comet
