#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace comet::cpu {

// A buffer that only grows, so that steps of the usual sizes allocate nothing. Its contents do not
// survive a call of Get().
template <typename T>
class Scratch {
 public:
  T* Get(int64_t count) {
    if (static_cast<int64_t>(buffer_.size()) < count) buffer_.resize(static_cast<size_t>(count));
    return buffer_.data();
  }

 private:
  std::vector<T> buffer_;
};

}  // namespace comet::cpu
