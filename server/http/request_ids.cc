#include "server/http/request_ids.h"

#include <random>

#include "kernels/base/random.h"

namespace comet {

RequestIds::RequestIds()
    : next_([] {
        std::random_device device;
        return (uint64_t{device()} << 32) | device();
      }()) {}

std::string RequestIds::Next() {
  const uint64_t bits = MixBits(next_.fetch_add(1, std::memory_order_relaxed));
  std::string id = "req-";
  for (int shift = 60; shift >= 0; shift -= 4) id += "0123456789abcdef"[(bits >> shift) & 15];
  return id;
}

}  // namespace comet
