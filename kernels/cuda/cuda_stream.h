#pragma once

#include <functional>
#include <utility>

#include "kernels/base/status.h"

// Owners of the runtime's objects, without CUDA's header: a handle is a cudaStream_t, cudaEvent_t
// or cudaGraphExec_t. Each belongs to the device that was current when it was made. Movable, not
// thread-safe; an owner that was moved from or default-constructed holds nothing.
namespace comet {

// An in-order stream, independent of the default stream.
class CudaStream {
 public:
  CudaStream() = default;
  CudaStream(CudaStream&& other) noexcept { *this = std::move(other); }
  CudaStream& operator=(CudaStream&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  ~CudaStream();

  static Result<CudaStream> Create();

  void* handle() const { return handle_; }
  // Waits for everything issued so far and reports its faults.
  Status Synchronize() const;

 private:
  void* handle_ = nullptr;
};

// A point in a stream's work that keeps its time.
class CudaEvent {
 public:
  CudaEvent() = default;
  CudaEvent(CudaEvent&& other) noexcept { *this = std::move(other); }
  CudaEvent& operator=(CudaEvent&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  ~CudaEvent();

  static Result<CudaEvent> Create();

  Status Record(const CudaStream& stream) const;
  // Waits until the stream has passed the point recorded last.
  Status Synchronize() const;
  // From `begin` to this one; waits until both have passed.
  Result<double> MicrosecondsSince(const CudaEvent& begin) const;

 private:
  void* handle_ = nullptr;
};

// Work captured once and replayed without the host's cost of each launch.
class CudaGraph {
 public:
  CudaGraph() = default;
  CudaGraph(CudaGraph&& other) noexcept { *this = std::move(other); }
  CudaGraph& operator=(CudaGraph&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  ~CudaGraph();

  // Runs `issue`, which may only issue work on `stream`, and keeps that work instead of doing it.
  // The memory it names must stay while the graph lives. Errors: `issue`'s; kInternal where it
  // waits, copies from unpinned memory or allocates.
  static Result<CudaGraph> Capture(const CudaStream& stream, const std::function<Status()>& issue);

  Status Launch(const CudaStream& stream) const;

 private:
  void* handle_ = nullptr;
};

}  // namespace comet
