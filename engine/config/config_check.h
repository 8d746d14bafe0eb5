#pragma once

#include <string>
#include <string_view>

#include "kernels/base/status.h"
#include "kernels/base/str_cat.h"

namespace comet {

// Collects every broken rule of one configuration section, one a line.
class ConfigCheck {
 public:
  explicit ConfigCheck(std::string_view section) : section_(section) {}

  template <typename T>
  void AtLeast(std::string_view name, T value, T minimum) {
    if (value < minimum) Add(StrCat(name, " is ", value, ", expected at least ", minimum));
  }
  template <typename T>
  void InRange(std::string_view name, T value, T minimum, T maximum) {
    if (!(value >= minimum && value <= maximum)) {
      Add(StrCat(name, " is ", value, ", expected ", minimum, " to ", maximum));
    }
  }
  void Require(bool condition, std::string_view message) {
    if (!condition) Add(std::string(message));
  }
  // Takes over the faults of a sub-section.
  void Merge(const Status& status) {
    if (!status.ok()) errors_ += (errors_.empty() ? "" : "\n") + status.message();
  }

  Status status() const { return errors_.empty() ? Status::Ok() : InvalidArgument(errors_); }

 private:
  void Add(std::string message) {
    errors_ += StrCat(errors_.empty() ? "" : "\n", section_, ".", message);
  }

  std::string section_;
  std::string errors_;
};

}  // namespace comet
