#pragma once

#include <cmath>

namespace comet {

// Adam (Kingma and Ba, arXiv:1412.6980): what its two running means forget a step.
inline constexpr float kMomentum = 0.9f;
inline constexpr float kSquareMomentum = 0.95f;  // Short, as the steps are few.

// What a mean that started at 0 has gathered of its whole after `step` steps, from 1 on.
inline float ShareGathered(float momentum, int step) {
  return 1.0f - std::pow(momentum, static_cast<float>(step));
}

}  // namespace comet
