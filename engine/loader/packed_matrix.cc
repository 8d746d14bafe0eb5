#include "engine/loader/packed_matrix.h"

#include <algorithm>

#include "engine/loader/unaligned.h"
#include "kernels/base/check.h"
#include "kernels/base/float_element.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int kWordCodes = 8;
constexpr int kMiddle = 8;  // What a stored code of a symmetric layer has too much.
// Where AWQ's word has each of eight outputs.
constexpr int kAwqPlace[kWordCodes] = {0, 4, 1, 5, 2, 6, 3, 7};

template <typename T>
T ValueAt(const ConstTensorView& tensor, int64_t value_idx) {
  return LoadUnaligned<T>(static_cast<const std::byte*>(tensor.data()) +
                          value_idx * int64_t{sizeof(T)});
}

int NibbleAt(const ConstTensorView& words, int row, int column, int place) {
  const uint32_t word = ValueAt<uint32_t>(words, int64_t{row} * words.dim(1) + column);
  return static_cast<int>(word >> (4 * place) & 15u);
}

}  // namespace

Result<ConstTensorView> FindFolderTensor(const FolderWeights& weights, const std::string& name,
                                         std::initializer_list<DType> dtypes,
                                         std::initializer_list<int> dims, TensorNames& known) {
  const TensorShape shape(dims);
  std::string expected;
  for (const DType dtype : dtypes) {
    expected += StrCat(expected.empty() ? "" : ", ", SafetensorsName(dtype));
  }
  expected += StrCat(" ", shape.ToString());
  const FolderTensor* tensor = weights.Find(name);
  if (tensor == nullptr) {
    return DataLoss(StrCat(weights.path(), ": ", name, ": is absent, expected ", expected));
  }
  const std::string where = StrCat(tensor->file->path(), ": ", name, ": ");
  if (!tensor->view.is_present()) {
    return Unimplemented(StrCat(where, "is ", tensor->dtype, ", expected ", expected));
  }
  const ConstTensorView& view = tensor->view;
  if (std::ranges::find(dtypes, view.dtype()) == dtypes.end() ||
      view.shape().ToString() != shape.ToString()) {
    return DataLoss(
        StrCat(where, "is ", tensor->dtype, " ", view.shape().ToString(), ", expected ", expected));
  }
  known.insert(name);
  return view;
}

Result<PackedMatrix> PackedMatrix::Find(const FolderWeights& weights, const std::string& name,
                                        const PackedFormat& format, int num_outputs, int num_inputs,
                                        TensorNames& known) {
  if (num_outputs % kWordCodes != 0 || num_inputs % kWordCodes != 0) {
    return Unimplemented(StrCat(weights.path(), ": ", name, ": has ", num_outputs, " outputs and ",
                                num_inputs, " inputs, expected multiples of 8 of packed weights"));
  }
  PackedMatrix matrix;
  matrix.where_ = StrCat(weights.path(), ": ", name);
  matrix.format_ = format;
  matrix.num_outputs_ = num_outputs;
  matrix.num_inputs_ = num_inputs;
  switch (format.method) {
    case PackedMethod::kNone: COMET_CHECK(false); break;
    case PackedMethod::kAwq: COMET_RETURN_IF_ERROR(matrix.FindAwq(weights, name, known)); break;
    case PackedMethod::kGptq: COMET_RETURN_IF_ERROR(matrix.FindGptq(weights, name, known)); break;
    case PackedMethod::kCompressedTensors:
      COMET_RETURN_IF_ERROR(matrix.FindCompressed(weights, name, known));
      break;
  }
  return matrix;
}

Status PackedMatrix::FindAwq(const FolderWeights& weights, const std::string& name,
                             TensorNames& known) {
  const int num_groups = format_.num_groups(num_inputs_);
  const int num_words = num_outputs_ / kWordCodes;
  COMET_ASSIGN_OR_RETURN(codes_, FindFolderTensor(weights, name + ".qweight", {DType::kI32},
                                                  {num_inputs_, num_words}, known));
  COMET_ASSIGN_OR_RETURN(zeros_, FindFolderTensor(weights, name + ".qzeros", {DType::kI32},
                                                  {num_groups, num_words}, known));
  COMET_ASSIGN_OR_RETURN(scales_, FindFolderTensor(weights, name + ".scales", kFloatDTypes,
                                                   {num_groups, num_outputs_}, known));
  return Status::Ok();
}

Status PackedMatrix::FindGptq(const FolderWeights& weights, const std::string& name,
                              TensorNames& known) {
  const int num_groups = format_.num_groups(num_inputs_);
  COMET_ASSIGN_OR_RETURN(codes_, FindFolderTensor(weights, name + ".qweight", {DType::kI32},
                                                  {num_inputs_ / kWordCodes, num_outputs_}, known));
  COMET_ASSIGN_OR_RETURN(zeros_, FindFolderTensor(weights, name + ".qzeros", {DType::kI32},
                                                  {num_groups, num_outputs_ / kWordCodes}, known));
  COMET_ASSIGN_OR_RETURN(scales_, FindFolderTensor(weights, name + ".scales", kFloatDTypes,
                                                   {num_groups, num_outputs_}, known));
  return FindGroups(weights, name + ".g_idx", known);
}

Status PackedMatrix::FindCompressed(const FolderWeights& weights, const std::string& name,
                                    TensorNames& known) {
  const int num_groups = format_.num_groups(num_inputs_);
  COMET_ASSIGN_OR_RETURN(codes_, FindFolderTensor(weights, name + ".weight_packed", {DType::kI32},
                                                  {num_outputs_, num_inputs_ / kWordCodes}, known));
  COMET_ASSIGN_OR_RETURN(scales_, FindFolderTensor(weights, name + ".weight_scale", kFloatDTypes,
                                                   {num_outputs_, num_groups}, known));
  if (!format_.is_symmetric) {
    COMET_ASSIGN_OR_RETURN(zeros_,
                           FindFolderTensor(weights, name + ".weight_zero_point", {DType::kI32},
                                            {num_outputs_ / kWordCodes, num_groups}, known));
  }
  // The shape of the codes says the same, for numbers of inputs that fill whole words.
  if (weights.Find(name + ".weight_shape") != nullptr) known.insert(name + ".weight_shape");
  return FindGroups(weights, name + ".weight_g_idx", known);
}

Status PackedMatrix::FindGroups(const FolderWeights& weights, const std::string& name,
                                TensorNames& known) {
  if (weights.Find(name) == nullptr) return Status::Ok();
  COMET_ASSIGN_OR_RETURN(groups_,
                         FindFolderTensor(weights, name, {DType::kI32}, {num_inputs_}, known));
  return Status::Ok();
}

Status PackedMatrix::Dequantize(std::span<float> out) const {
  COMET_CHECK(out.size() == static_cast<size_t>(num_outputs_) * static_cast<size_t>(num_inputs_));
  COMET_ASSIGN_OR_RETURN(const std::vector<int> groups, ReadGroups());
  const int num_groups = format_.num_groups(num_inputs_);
  std::vector<float> scales(static_cast<size_t>(num_groups));
  std::vector<int> zeros(static_cast<size_t>(num_groups));
  float* value = out.data();
  for (int n = 0; n < num_outputs_; ++n) {
    for (int g = 0; g < num_groups; ++g) {
      scales[static_cast<size_t>(g)] = ScaleAt(n, g);
      zeros[static_cast<size_t>(g)] = ZeroAt(n, g);
    }
    for (int k = 0; k < num_inputs_; ++k) {
      const size_t group = static_cast<size_t>(groups[static_cast<size_t>(k)]);
      *value++ = scales[group] * static_cast<float>(CodeAt(n, k) - zeros[group]);
    }
  }
  return Status::Ok();
}

Result<std::vector<int>> PackedMatrix::ReadGroups() const {
  const int num_groups = format_.num_groups(num_inputs_);
  std::vector<int> groups;
  groups.reserve(static_cast<size_t>(num_inputs_));
  for (int k = 0; k < num_inputs_; ++k) {
    const int group = groups_.is_present()     ? ValueAt<int32_t>(groups_, k)
                      : format_.group_size < 0 ? 0
                                               : k / format_.group_size;
    if (group < 0 || group >= num_groups) {
      return DataLoss(StrCat(where_, ": the group of input ", k, " is ", group, ", expected 0 to ",
                             num_groups - 1));
    }
    groups.push_back(group);
  }
  return groups;
}

int PackedMatrix::CodeAt(int output, int input) const {
  switch (format_.method) {
    case PackedMethod::kAwq:
      return NibbleAt(codes_, input, output / kWordCodes, kAwqPlace[output % kWordCodes]);
    case PackedMethod::kGptq:
      return NibbleAt(codes_, input / kWordCodes, output, input % kWordCodes);
    case PackedMethod::kCompressedTensors:
      return NibbleAt(codes_, output, input / kWordCodes, input % kWordCodes);
    case PackedMethod::kNone: break;
  }
  return 0;
}

int PackedMatrix::ZeroAt(int output, int group) const {
  if (!zeros_.is_present()) return kMiddle;
  const int word = output / kWordCodes;
  const int place = output % kWordCodes;
  switch (format_.method) {
    case PackedMethod::kAwq: return NibbleAt(zeros_, group, word, kAwqPlace[place]);
    case PackedMethod::kGptq:
      return NibbleAt(zeros_, group, word, place) + (format_.zeros_are_less_one ? 1 : 0);
    case PackedMethod::kCompressedTensors: return NibbleAt(zeros_, word, group, place);
    case PackedMethod::kNone: break;
  }
  return 0;
}

float PackedMatrix::ScaleAt(int output, int group) const {
  const bool outputs_first = format_.method == PackedMethod::kCompressedTensors;
  return FloatAt(scales_, outputs_first ? int64_t{output} * scales_.dim(1) + group
                                        : int64_t{group} * scales_.dim(1) + output);
}

}  // namespace comet
