#pragma once

#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace comet {

// Leaves elements that are given no value as they are.
template <typename T>
struct UninitializedAllocator : std::allocator<T> {
  template <typename U>
  struct rebind {
    using other = UninitializedAllocator<U>;
  };
  UninitializedAllocator() = default;
  template <typename U>
  UninitializedAllocator(const UninitializedAllocator<U>&) {}  // NOLINT: implicit, as required.

  template <typename U, typename... Args>
  void construct(U* element, Args&&... args) {
    if constexpr (sizeof...(Args) == 0) {
      ::new (static_cast<void*>(element)) U;
    } else {
      ::new (static_cast<void*>(element)) U(std::forward<Args>(args)...);
    }
  }
};

// Rows of floats that are about to be written by many threads: HostRows(n) is not cleared first,
// which one thread would do.
using HostRows = std::vector<float, UninitializedAllocator<float>>;

}  // namespace comet
