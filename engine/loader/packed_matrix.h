#pragma once

#include <set>
#include <span>
#include <string>
#include <vector>

#include "engine/loader/folder_weights.h"
#include "engine/loader/packed_format.h"
#include "kernels/base/status.h"

namespace comet {

using TensorNames = std::set<std::string, std::less<>>;

// The tensor of that name, whose dtype must be one of `dtypes`; adds its name to `known`. Errors:
// kDataLoss with file, tensor, got and expected.
Result<ConstTensorView> FindFolderTensor(const FolderWeights& weights, const std::string& name,
                                         std::initializer_list<DType> dtypes,
                                         std::initializer_list<int> dims, TensorNames& known);

inline constexpr std::initializer_list<DType> kFloatDTypes = {DType::kF32, DType::kF16,
                                                              DType::kBf16};

// One 4-bit linear layer of a folder, [num_outputs, num_inputs], mapped.
//
//   awq   NAME.qweight I32 [K, N / 8], .qzeros I32 [G, N / 8], .scales [G, N]. Outputs 0, 2, 4,
//         6, 1, 3, 5, 7 of eight are bits 0-3, 4-7, ... of a word.
//   gptq  NAME.qweight I32 [K / 8, N], .qzeros I32 [G, N / 8], .scales [G, N], maybe .g_idx I32
//         [K]: the group of each input. The first of eight is bits 0-3.
//   compressed-tensors  NAME.weight_packed I32 [N, K / 8], .weight_scale [N, G], .weight_shape I64,
//         maybe .weight_g_idx, and, when not symmetric, .weight_zero_point I32 [N / 8, G]. Codes
//         and zero points are stored plus 8.
//
// Sources: the code of AutoAWQ, AutoGPTQ and compressed-tensors that packs them.
class PackedMatrix {
 public:
  // Finds and checks its tensors; adds their names to `known`. Errors: kDataLoss; kUnimplemented
  // for a number of inputs or outputs that is no multiple of 8.
  static Result<PackedMatrix> Find(const FolderWeights& weights, const std::string& name,
                                   const PackedFormat& format, int num_outputs, int num_inputs,
                                   TensorNames& known);

  // Exact: scale * (code - zero) is one rounding to fp32 of at most 16 significant bits. Errors:
  // kDataLoss for a group out of range.
  Status Dequantize(std::span<float> out) const;

 private:
  Status FindAwq(const FolderWeights& weights, const std::string& name, TensorNames& known);
  Status FindGptq(const FolderWeights& weights, const std::string& name, TensorNames& known);
  Status FindCompressed(const FolderWeights& weights, const std::string& name, TensorNames& known);
  Status FindGroups(const FolderWeights& weights, const std::string& name, TensorNames& known);
  Result<std::vector<int>> ReadGroups() const;
  int CodeAt(int output, int input) const;
  int ZeroAt(int output, int group) const;
  float ScaleAt(int output, int group) const;

  std::string where_;
  PackedFormat format_;
  int num_outputs_ = 0;
  int num_inputs_ = 0;
  ConstTensorView codes_;
  ConstTensorView zeros_;  // Absent: every zero point is 8 among codes of 0 to 15.
  ConstTensorView scales_;
  ConstTensorView groups_;  // Absent: inputs are in the order of their groups.
};

}  // namespace comet
