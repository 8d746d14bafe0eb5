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
// checks names, dtypes and shapes, that each tensor lies in the file and is aligned for its dtype,
// and that the tensors cover the data without gap or overlap, as the format demands. Immutable, so
// thread-safe.
class SafetensorsFile {
 public:
  // Errors: kNotFound; kDataLoss with file, tensor, got and expected; kUnimplemented (a dtype).
  static Result<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  int64_t num_bytes() const { return file_.num_bytes(); }
  const std::map<std::string, ConstTensorView, std::less<>>& tensors() const { return tensors_; }
  bool Has(std::string_view name) const { return tensors_.contains(name); }

  // The tensor of that name, dtype and shape. Errors: kDataLoss.
  Result<ConstTensorView> Find(std::string_view name, DType dtype,
                               std::initializer_list<int> dims) const;

 private:
  explicit SafetensorsFile(MappedFile file) : file_(std::move(file)) {}

  Status ReadHeader();

  MappedFile file_;
  std::map<std::string, ConstTensorView, std::less<>> tensors_;
};

}  // namespace comet
