#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/cuda_device.h"
#include "kernels/device.h"

namespace comet::cuda {

// Brings host memory, a mapped file above all, to the device: two staging buffers in turn, so that
// the threads that read the source into one run beside the copy out of the other. Copies go to the
// device's stream. Confined to one thread.
class StagedUpload {
 public:
  static constexpr int64_t kBufferBytes = 16 << 20;

  static Result<StagedUpload> Create(CudaDevice& device);

  CudaDevice& device() const { return *device_; }

  // Copies everything; `source` may be reused once the call returns, `destination` is written in
  // the stream's order.
  Status Copy(void* destination, const void* source, int64_t num_bytes);
  // Rows of `row_bytes` to rows at `destination_row_bytes`, zeros between them.
  Status CopyRows(void* destination, int64_t destination_row_bytes, const void* source,
                  int64_t source_row_bytes, int64_t row_bytes, int num_rows);

  // For sources that need a kernel: the next free buffer of kBufferBytes, filled by Fill() and sent
  // by Send().
  Result<std::byte*> NextBuffer();
  // Copies on several threads: one alone reads a mapped file at a fraction of the bus's rate.
  static void Fill(std::byte* destination, const void* source, int64_t num_bytes);
  // The buffer last given, to `destination`.
  Status Send(void* destination, int64_t num_bytes);
  // kBufferBytes of device memory that the stream's work may use between two calls of Send().
  void* device_buffer() const { return device_buffer_.data(); }

 private:
  static constexpr int kNumBuffers = 2;

  CudaDevice* device_ = nullptr;
  DeviceBuffer buffers_[kNumBuffers];  // Staging memory.
  CudaEvent sent_[kNumBuffers];        // After the copy out of each.
  int buffer_idx_ = 0;                 // Given last.
  DeviceBuffer device_buffer_;
};

}  // namespace comet::cuda
