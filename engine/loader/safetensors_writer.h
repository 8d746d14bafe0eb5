#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/loader/output_file.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"

namespace comet {

struct SafetensorsSpec {
  std::string name;
  DType dtype = DType::kF32;
  TensorShape shape;
};

// Writes a safetensors file whose tensors are all declared first and then written one at a time, in
// any order, so a model never has to be in memory. Wider dtypes lie first, so every tensor is
// aligned without gaps. The bytes depend on the declared set and the values only. Confined to one
// thread.
class SafetensorsWriter {
 public:
  // Errors: those of OutputFile.
  static Result<std::unique_ptr<SafetensorsWriter>> Create(const std::string& path,
                                                           std::vector<SafetensorsSpec> specs);

  // The whole tensor, contiguous; writing another size or an undeclared or written tensor is a bug.
  Status Write(std::string_view name, std::span<const std::byte> bytes);
  template <typename T>
  Status Write(std::string_view name, const std::vector<T>& values) {
    return Write(name, std::as_bytes(std::span(values)));
  }

  // Makes the file durable; every declared tensor has been written.
  Status Finish();

 private:
  struct Place {
    int64_t offset = 0;  // In the file.
    int64_t num_bytes = 0;
    bool is_written = false;
  };

  explicit SafetensorsWriter(OutputFile file) : file_(std::move(file)) {}

  OutputFile file_;
  std::map<std::string, Place, std::less<>> places_;
};

}  // namespace comet
