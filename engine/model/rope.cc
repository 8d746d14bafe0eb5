#include "engine/model/rope.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/base/check.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// LLaMA-3.1 keeps fast pairs, divides slow ones by the factor and blends between, by how often a
// pair turns within the original context.
double ScaleLlama3(const RopeConfig& rope, double frequency) {
  const double turns = rope.original_context_max * frequency / (2.0 * std::numbers::pi);
  if (turns < rope.low_frequency_factor) return frequency / rope.factor;
  if (turns > rope.high_frequency_factor) return frequency;
  const double blend = (turns - rope.low_frequency_factor) /
                       (rope.high_frequency_factor - rope.low_frequency_factor);
  return (1.0 - blend) * frequency / rope.factor + blend * frequency;
}

// YaRN keeps pairs that turn more than beta_fast times within the original context, divides those
// that turn less than beta_slow times by the factor and blends between, linearly in the pair.
double ScaleYarn(const RopeConfig& rope, int num_pairs, int pair_idx, double frequency) {
  const auto pair_that_turns = [&](double turns) {
    return num_pairs * std::log(rope.original_context_max / (turns * 2.0 * std::numbers::pi)) /
           std::log(rope.theta);
  };
  const double first = std::max(std::floor(pair_that_turns(rope.beta_fast)), 0.0);
  double last = std::min(std::ceil(pair_that_turns(rope.beta_slow)), 2.0 * num_pairs - 1.0);
  if (last == first) last += 0.001;
  const double blend = std::clamp((pair_idx - first) / (last - first), 0.0, 1.0);
  return frequency / rope.factor * blend + frequency * (1.0 - blend);
}

Result<std::vector<double>> PairFrequencies(const RopeConfig& rope, int num_pairs) {
  std::vector<double> frequencies(static_cast<size_t>(num_pairs));
  for (int i = 0; i < num_pairs; ++i) {
    double frequency = std::pow(rope.theta, -static_cast<double>(i) / num_pairs);
    if (rope.type == "linear") {
      frequency /= rope.factor;
    } else if (rope.type == "llama3") {
      frequency = ScaleLlama3(rope, frequency);
    } else if (rope.type == "yarn") {
      frequency = ScaleYarn(rope, num_pairs, i, frequency);
    } else if (rope.type == "divisors") {
      COMET_CHECK(rope.divisors.size() == frequencies.size());
      frequency /= double{rope.divisors[static_cast<size_t>(i)]};
    } else if (rope.type != "default") {
      return Unimplemented(StrCat("rope: scaling type is \"", rope.type,
                                  "\", expected default, linear, llama3, yarn or divisors"));
    }
    frequencies[static_cast<size_t>(i)] = frequency;
  }
  return frequencies;
}

}  // namespace

Result<RopeTables> MakeRopeTables(const RopeConfig& rope, int rotary_dim, int num_positions) {
  const int num_pairs = rotary_dim / 2;
  COMET_ASSIGN_OR_RETURN(const std::vector<double> frequencies, PairFrequencies(rope, num_pairs));

  const double factor = rope.type == "yarn" ? rope.attention_factor : 1.0;
  RopeTables tables;
  const size_t num_values = static_cast<size_t>(num_positions) * static_cast<size_t>(num_pairs);
  tables.cos.reserve(num_values);
  tables.sin.reserve(num_values);
  for (int position = 0; position < num_positions; ++position) {
    for (const double frequency : frequencies) {
      tables.cos.push_back(static_cast<float>(factor * std::cos(position * frequency)));
      tables.sin.push_back(static_cast<float>(factor * std::sin(position * frequency)));
    }
  }
  return tables;
}

}  // namespace comet
