#include "engine/quantizer/precision_budget.h"

#include "engine/quantizer/channel_order.h"
#include "kernels/ops/linear_input.h"

namespace comet {

PrecisionBudget::PrecisionBudget(const ModelConfig& config, double int4_share)
    : config_(config), int4_share_(int4_share) {}

LayerInt4Channels PrecisionBudget::NextLayer() {
  const int hidden = config_.hidden_size;
  const int q_size = config_.q_size();
  const int ffn = config_.ffn_size;
  LayerInt4Channels channels{.qkv = NumInt4Channels(hidden, int4_share_),
                             .o = NumInt4Channels(q_size, int4_share_),
                             .gate_up = NumInt4Channels(hidden, int4_share_),
                             .down = NumInt4Channels(ffn, int4_share_)};
  const auto add = [&](double num_outputs, int num_inputs, int num_int4) {
    num_products_ += num_outputs * num_inputs;
    num_int4_products_ += num_outputs * num_int4;
  };
  add(config_.qkv_size(), hidden, channels.qkv);
  add(hidden, q_size, channels.o);
  add(2.0 * ffn, hidden, channels.gate_up);
  add(hidden, ffn, channels.down);
  bool spends = true;
  while (spends) {
    spends = Spend(hidden, channels.o);
    spends = Spend(hidden, channels.down) || spends;
  }
  return channels;
}

bool PrecisionBudget::Spend(double num_outputs, int& num_channels) {
  const double block = num_outputs * kBlockChannels;
  if (num_channels == 0 || num_int4_products_ - block < int4_share_ * num_products_) return false;
  num_int4_products_ -= block;
  num_channels -= kBlockChannels;
  return true;
}

}  // namespace comet
