#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/loader/mapped_file.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"

namespace comet {

// The name of a dtype in the format ("F32", "I8", ...), and back (kUnimplemented for the others).
std::string_view SafetensorsName(DType dtype);
Result<DType> SafetensorsDType(std::string_view name);

// A mapped safetensors file: 8 bytes of header length, the JSON header, then the data. Open()
// checks names, dtypes and shapes, that each tensor lies in the file, and that the tensors cover
// the data without gap or overlap, as the format demands. Immutable, so thread-safe.
class SafetensorsFile {
 public:
  // Errors: kNotFound; kDataLoss with file, tensor, got and expected; kUnimplemented (a dtype, a
  // pickle).
  static Result<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  int64_t num_bytes() const { return file_.num_bytes(); }
  // A tensor need not be aligned for its dtype: old writers did not pad the header.
  const std::map<std::string, ConstTensorView, std::less<>>& tensors() const { return tensors_; }
  // The dtypes of tensors whose dtype no op takes: I64, F8_E4M3 and so on.
  const std::map<std::string, std::string, std::less<>>& others() const { return others_; }

  // The tensor of that name, dtype and shape, aligned for its dtype. Errors: kDataLoss.
  Result<ConstTensorView> Find(std::string_view name, DType dtype, const TensorShape& shape) const;

 private:
  explicit SafetensorsFile(MappedFile file) : file_(std::move(file)) {}

  Status ReadHeader();

  MappedFile file_;
  std::map<std::string, ConstTensorView, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> others_;
};

}  // namespace comet
