#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"

namespace comet {

// What accuracy.json says of one linear layer; see engine/quantizer/README.md. A value that was no
// number when it was written is NaN.
struct LinearErrors {
  double weight = 0.0;
  double output_8 = 0.0;
  double output_mixed = 0.0;
  double int4_share = 0.0;
};

// Perplexity of text that calibration did not see.
struct HeldOutPerplexity {
  int64_t num_predictions = 0;
  double source = 0.0;  // The float model.
  double int8 = 0.0;    // The checkpoint, INT8 activations, its own KV formats.
  double mixed = 0.0;   // The same with the checkpoint's INT4/INT8 mix.
};

// The names of a layer's linears, in the order of AccuracyFile::layers.
inline constexpr std::array<std::string_view, 4> kAccuracyLinears = {"qkv", "o", "gate_up", "down"};

// A checkpoint's accuracy.json as far as somebody else than its writer needs it.
struct AccuracyFile {
  std::vector<std::array<LinearErrors, kAccuracyLinears.size()>> layers;
  std::optional<HeldOutPerplexity> held_out;  // Absent in checkpoints made before it was measured.
};

// `where` begins the messages. Errors: kDataLoss.
Result<AccuracyFile> ParseAccuracyFile(const std::string& where, std::string_view text);
// Of a checkpoint folder. Errors: kNotFound; kDataLoss.
Result<AccuracyFile> ReadAccuracyFile(const std::string& folder);

}  // namespace comet
