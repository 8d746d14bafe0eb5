#include "kernels/cuda/staged_upload.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/base/host_limits.h"
#include "kernels/base/math.h"

namespace comet::cuda {
namespace {

constexpr int kThreadsMax = 8;
constexpr int64_t kThreadBytesMin = 1 << 20;  // A thread is worth its start.

int NumThreads(int64_t num_bytes) {
  static const int num_cpus = ReadHostLimits().num_cpus;
  return static_cast<int>(
      std::clamp<int64_t>(num_bytes / kThreadBytesMin, 1, std::min(num_cpus, kThreadsMax)));
}

}  // namespace

Result<StagedUpload> StagedUpload::Create(CudaDevice& device) {
  COMET_RETURN_IF_ERROR(device.MakeCurrent());
  StagedUpload upload;
  upload.device_ = &device;
  for (int i = 0; i < kNumBuffers; ++i) {
    COMET_ASSIGN_OR_RETURN(upload.buffers_[i], device.AllocateStaging(kBufferBytes));
    COMET_ASSIGN_OR_RETURN(upload.sent_[i], CudaEvent::Create());
    COMET_RETURN_IF_ERROR(upload.sent_[i].Record(device.stream()));
  }
  COMET_ASSIGN_OR_RETURN(upload.device_buffer_, device.Allocate(kBufferBytes));
  return upload;
}

Result<std::byte*> StagedUpload::NextBuffer() {
  COMET_RETURN_IF_ERROR(device_->MakeCurrent());
  buffer_idx_ = (buffer_idx_ + 1) % kNumBuffers;
  COMET_RETURN_IF_ERROR(sent_[buffer_idx_].Synchronize());
  return static_cast<std::byte*>(buffers_[buffer_idx_].data());
}

void StagedUpload::Fill(std::byte* destination, const void* source, int64_t num_bytes) {
  const int num_threads = NumThreads(num_bytes);
  const int64_t share = AlignUp(CeilDiv(num_bytes, int64_t{num_threads}), int64_t{4096});
  const auto copy = [&](int64_t first) {
    const int64_t count = std::min(share, num_bytes - first);
    if (count <= 0) return;
    std::memcpy(destination + first, static_cast<const std::byte*>(source) + first,
                static_cast<size_t>(count));
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < num_threads; ++i) threads.emplace_back(copy, i * share);
  copy(0);
  for (std::thread& thread : threads) thread.join();
}

Status StagedUpload::Send(void* destination, int64_t num_bytes) {
  COMET_RETURN_IF_ERROR(
      device_->StartCopyToDevice(destination, buffers_[buffer_idx_].data(), num_bytes));
  return sent_[buffer_idx_].Record(device_->stream());
}

Status StagedUpload::Copy(void* destination, const void* source, int64_t num_bytes) {
  for (int64_t first = 0; first < num_bytes; first += kBufferBytes) {
    const int64_t count = std::min(kBufferBytes, num_bytes - first);
    COMET_ASSIGN_OR_RETURN(std::byte* const buffer, NextBuffer());
    Fill(buffer, static_cast<const std::byte*>(source) + first, count);
    COMET_RETURN_IF_ERROR(Send(static_cast<std::byte*>(destination) + first, count));
  }
  return Status::Ok();
}

Status StagedUpload::CopyRows(void* destination, int64_t destination_row_bytes, const void* source,
                              int64_t source_row_bytes, int64_t row_bytes, int num_rows) {
  if (destination_row_bytes == row_bytes && source_row_bytes == row_bytes) {
    return Copy(destination, source, num_rows * row_bytes);
  }
  COMET_CHECK(destination_row_bytes <= kBufferBytes && row_bytes <= destination_row_bytes);
  const int rows_at_once =
      static_cast<int>(std::min<int64_t>(kBufferBytes / destination_row_bytes, num_rows));
  for (int first = 0; first < num_rows; first += rows_at_once) {
    const int count = std::min(rows_at_once, num_rows - first);
    COMET_ASSIGN_OR_RETURN(std::byte* const buffer, NextBuffer());
    for (int i = 0; i < count; ++i) {
      std::byte* const row = buffer + i * destination_row_bytes;
      std::memcpy(row, static_cast<const std::byte*>(source) + (first + i) * source_row_bytes,
                  static_cast<size_t>(row_bytes));
      std::memset(row + row_bytes, 0, static_cast<size_t>(destination_row_bytes - row_bytes));
    }
    COMET_RETURN_IF_ERROR(Send(static_cast<std::byte*>(destination) + first * destination_row_bytes,
                               count * destination_row_bytes));
  }
  return Status::Ok();
}

}  // namespace comet::cuda
