#pragma once

#include <span>

#include "kernels/cpu/scratch.h"

namespace comet::cpu {

// The ids of a row by (value descending, id ascending), sorted only as far as they are asked for: a
// sampled token is nearly always among the first few of a vocabulary. Values are finite.
class CandidateOrder {
 public:
  // `ids` is borrowed scratch.
  CandidateOrder(std::span<const float> values, Scratch<int>& ids);

  // The id at place i, below values.size().
  int operator[](int i) {
    while (i >= num_sorted_) SortNextBand();
    return ids_[i];
  }

 private:
  void SortNextBand();

  std::span<const float> values_;
  int* ids_;
  int num_sorted_ = 0;
  int band_idx_ = 0;
  float max_;
};

}  // namespace comet::cpu
