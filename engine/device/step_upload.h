#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/device.h"

namespace comet {

// The host arrays of one step on their way to device memory: written one behind the other into
// staging memory and sent by one copy. Arrays of the same sizes lie at the same addresses in every
// step, as captured work needs. Two blocks of staging memory take turns, so that a step is written
// while the device has not reached the one before. Confined to the step thread.
class StepUpload {
 public:
  StepUpload() = default;
  // Room for `num_words_max` 4-byte elements in `num_arrays_max` arrays. `device` outlives it.
  static Result<StepUpload> Create(Device& device, int64_t num_words_max, int num_arrays_max);

  // Forgets the arrays; waits until the copy of the step before the last one is done.
  Status Begin();
  // The next array: `host` is filled before Send(), `device` holds it afterwards.
  template <typename T>
  struct Array {
    std::span<T> host;
    ConstTensorView device;
  };
  Array<int32_t> TakeInts(size_t count) { return Take<int32_t>(count, DType::kI32); }
  ConstTensorView Add(std::span<const int32_t> values) { return AddCopy(values, DType::kI32); }
  ConstTensorView Add(std::span<const float> values) { return AddCopy(values, DType::kF32); }
  Status Send();

  int64_t num_bytes() const { return on_device_.num_bytes(); }

 private:
  struct Block {
    DeviceBuffer staging;
    std::unique_ptr<DeviceEvent> is_sent;
  };

  // The offset of `count` words.
  size_t TakeWords(size_t count);
  template <typename T>
  Array<T> Take(size_t count, DType dtype);
  template <typename T>
  ConstTensorView AddCopy(std::span<const T> values, DType dtype);

  Device* device_ = nullptr;
  DeviceBuffer on_device_;
  std::array<Block, 2> blocks_;
  size_t block_idx_ = 0;  // Of the step that is written.
  size_t num_bytes_taken_ = 0;
};

}  // namespace comet
