#pragma once

#include <cstddef>
#include <cstring>

namespace comet {

// A value whose bytes lie anywhere.
template <typename T>
T LoadUnaligned(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

}  // namespace comet
