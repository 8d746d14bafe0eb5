#include "engine/device/step_upload.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/base/math.h"

namespace comet {
namespace {

constexpr size_t kWordBytes = 4;
constexpr auto kArrayAlignment = static_cast<size_t>(kDeviceAlignment);

}  // namespace

Result<StepUpload> StepUpload::Create(Device& device, int64_t num_words_max, int num_arrays_max) {
  const int64_t num_bytes = num_words_max * static_cast<int64_t>(kWordBytes) +
                            int64_t{num_arrays_max} * static_cast<int64_t>(kArrayAlignment);
  StepUpload upload;
  upload.device_ = &device;
  COMET_ASSIGN_OR_RETURN(upload.on_device_, device.Allocate(num_bytes));
  for (Block& block : upload.blocks_) {
    COMET_ASSIGN_OR_RETURN(block.staging, device.AllocateStaging(num_bytes));
    COMET_ASSIGN_OR_RETURN(block.is_sent, device.CreateEvent());
  }
  return upload;
}

Status StepUpload::Begin() {
  block_idx_ = (block_idx_ + 1) % blocks_.size();
  num_bytes_taken_ = 0;
  return blocks_[block_idx_].is_sent->Wait();
}

Status StepUpload::Send() {
  const Block& block = blocks_[block_idx_];
  COMET_RETURN_IF_ERROR(device_->StartCopyToDevice(on_device_.data(), block.staging.data(),
                                                   static_cast<int64_t>(num_bytes_taken_)));
  return block.is_sent->Record();
}

size_t StepUpload::TakeWords(size_t count) {
  const size_t offset = num_bytes_taken_;
  num_bytes_taken_ = offset + AlignUp(count * kWordBytes, kArrayAlignment);
  COMET_CHECK(static_cast<int64_t>(num_bytes_taken_) <= on_device_.num_bytes());
  return offset;
}

template <typename T>
StepUpload::Array<T> StepUpload::Take(size_t count, DType dtype) {
  static_assert(sizeof(T) == kWordBytes);
  const size_t offset = TakeWords(count);
  std::byte* const staging = static_cast<std::byte*>(blocks_[block_idx_].staging.data());
  return {.host = {reinterpret_cast<T*>(staging + offset), count},
          .device = {static_cast<const std::byte*>(on_device_.data()) + offset,
                     dtype,
                     {static_cast<int>(count)}}};
}

template <typename T>
ConstTensorView StepUpload::AddCopy(std::span<const T> values, DType dtype) {
  const Array<T> array = Take<T>(values.size(), dtype);
  std::copy(values.begin(), values.end(), array.host.begin());
  return array.device;
}

template StepUpload::Array<int32_t> StepUpload::Take(size_t count, DType dtype);
template ConstTensorView StepUpload::AddCopy(std::span<const int32_t> values, DType dtype);
template ConstTensorView StepUpload::AddCopy(std::span<const float> values, DType dtype);

}  // namespace comet
