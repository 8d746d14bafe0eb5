#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace comet {

// Names for requests that came without one: unique within a process and, by a random start, very
// likely beyond it. Thread-safe.
class RequestIds {
 public:
  RequestIds();

  // "req-0123456789abcdef"
  std::string Next();

 private:
  // Only uniqueness matters, so the increments are relaxed.
  std::atomic<uint64_t> next_;
};

}  // namespace comet
