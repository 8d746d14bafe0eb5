#pragma once

#include "engine/model/model_config.h"

namespace comet {

// INT4 channels of the linears of one layer.
struct LayerInt4Channels {
  int qkv = 0;
  int o = 0;
  int gate_up = 0;
  int down = 0;
};

// Shares blocks out over layers and linears, one layer after the other, so that the INT4 share of
// the model's multiply-adds is at least what is wanted and as near it as whole blocks allow: each
// linear gets the fewest blocks that reach the share alone, and what that leaves over goes back to
// INT8 by turns in o and down, whose inputs no norm has made and whose blocks cost least.
class PrecisionBudget {
 public:
  PrecisionBudget(const ModelConfig& config, double int4_share);

  LayerInt4Channels NextLayer();

 private:
  // Whether the share so far allows one block of a linear of that many outputs to be INT8.
  bool Spend(double num_outputs, int& num_channels);

  const ModelConfig config_;
  double int4_share_;
  double num_products_ = 0.0;
  double num_int4_products_ = 0.0;
};

}  // namespace comet
