#pragma once

#include <vector>

#include "engine/model/model_config.h"
#include "kernels/base/status.h"

namespace comet {

// cos and sin of every position and rotary pair, [num_positions, rotary_dim / 2] f32. Computed on
// the host in double and rounded once, so that every back end rotates by the same bits.
struct RopeTables {
  std::vector<float> cos;
  std::vector<float> sin;
};

// yarn's attention factor is in both. Errors: kUnimplemented for an unknown scaling type, naming
// it. Source: Su et al. 2021, arXiv:2104.09864; llama3: Dubey et al. 2024, arXiv:2407.21783; yarn:
// Peng et al. 2023, arXiv:2309.00071.
Result<RopeTables> MakeRopeTables(const RopeConfig& rope, int rotary_dim, int num_positions);

}  // namespace comet
