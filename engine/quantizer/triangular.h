#pragma once

#include <cstddef>
#include <vector>

namespace comet {

// Dense lower-triangular algebra of one symmetric positive definite matrix [n, n], fp32, row-major.
// What lies above the diagonal is neither read nor kept. Sums have a fixed order, so thread counts
// do not change results.

// Overwrites H with L, H = L L^T. A pivot that rounding has made non-positive is raised to a small
// positive number; with a damped unit diagonal none is.
void FactorLower(std::vector<float>& matrix, size_t n, int num_threads);

// The inverse of a lower-triangular matrix with a positive diagonal.
std::vector<float> InvertLower(const std::vector<float>& lower, size_t n, int num_threads);

}  // namespace comet
