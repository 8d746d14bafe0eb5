#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace comet {

inline constexpr size_t kLineFloats = 16;  // Of a line of the cache.

// Leaves elements that are given no value as they are. Arrays begin at a line of the cache, so that
// no vector register is loaded across two.
template <typename T>
struct UninitializedAllocator : std::allocator<T> {
  template <typename U>
  struct rebind {
    using other = UninitializedAllocator<U>;
  };
  UninitializedAllocator() = default;
  template <typename U>
  UninitializedAllocator(const UninitializedAllocator<U>&) {}  // NOLINT: implicit, as required.

  T* allocate(size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), kAlignment));
  }
  void deallocate(T* elements, size_t) { ::operator delete(elements, kAlignment); }

  template <typename U, typename... Args>
  void construct(U* element, Args&&... args) {
    if constexpr (sizeof...(Args) == 0) {
      ::new (static_cast<void*>(element)) U;
    } else {
      ::new (static_cast<void*>(element)) U(std::forward<Args>(args)...);
    }
  }

 private:
  static constexpr std::align_val_t kAlignment{kLineFloats * sizeof(float)};
};

// Rows of floats that are about to be written by many threads: HostRows(n) is not cleared first,
// which one thread would do.
using HostRows = std::vector<float, UninitializedAllocator<float>>;

}  // namespace comet
