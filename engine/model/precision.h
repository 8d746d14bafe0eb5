#pragma once

#include <string_view>

#include "kernels/base/status.h"
#include "kernels/ops/kv_cache_view.h"
#include "kernels/ops/linear_input.h"

namespace comet {

enum class WeightMode { kComet, kFloat };

// What a run computes with. kFloat weights take kFloat activations; kComet weights take all three.
struct Precision {
  WeightMode weights = WeightMode::kComet;
  ActivationMode activations = ActivationMode::kInt8;
  // Of every layer, unless kv_from_checkpoint keeps the checkpoint's own map.
  KvFormat kv;
  bool kv_from_checkpoint = true;

  Status Validate() const;
};

// The command-line forms: "mixed", "8", "float"; "4", "8", "16", "32" or "8/4" (K/V).
Result<ActivationMode> ParseActivationMode(std::string_view text);
Result<KvFormat> ParseKvFormat(std::string_view text);
std::string_view ToString(ActivationMode mode);

}  // namespace comet
