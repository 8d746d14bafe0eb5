#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/decoder_layer.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// What calibration has seen at the input of one linear layer, K channels in the producer's order.
struct ActivationStatistics {
  int num_channels = 0;
  int64_t num_tokens = 0;
  std::vector<float> abs_max;  // [K]
  std::vector<float> gram;     // [K, K]: sum of w x x^T over tokens, see below
  std::vector<float> sample;   // [num_sample_tokens, K]: evenly spaced tokens
  int num_sample_tokens = 0;

  // The gram matrix scaled to a mean diagonal of 1, with `damping` added to its diagonal: what
  // rounding is measured by. Channels that the calibration text leaves silent still count, and the
  // chance correlations of few tokens weigh less.
  std::vector<float> DampedGram(float damping) const;
  std::vector<float> Activity() const;  // [K]: the gram matrix's diagonal
};

// Collects the inputs of the four linears of one layer, fp32, over several windows. A token is
// sampled where its index is a multiple of `sample_stride`. A token's weight in the gram matrix is
// one over the mean square of what the norm that reads the result divides by: of the residual
// stream after o and down; of the input itself, which a norm has made, for qkv and gate_up. So
// errors count as the layers behind see them, and the few tokens of huge activations do not outvote
// all others. Confined to one thread.
class StatisticsObserver final : public LayerObserver {
 public:
  StatisticsObserver(Backend& backend, int sample_stride)
      : backend_(backend), sample_stride_(sample_stride) {}

  void OnLinearInput(LinearKind kind, const LinearInput& input) override;
  void OnResidual(LinearKind kind, const TensorView& hidden) override;

  const ActivationStatistics& of(LinearKind kind) const {
    return statistics_[static_cast<size_t>(kind)];
  }
  // The first fault of the back end.
  const Status& status() const { return status_; }

 private:
  Status Observe(LinearKind kind, const LinearInput& input);
  void Add(std::span<const float> rows, ActivationStatistics& statistics);
  Status AddGram(std::span<const float> rows, std::span<const float> weighting,
                 ActivationStatistics& statistics);
  Status Download(const TensorView& tensor, std::vector<float>& values);

  Backend& backend_;
  int sample_stride_;
  std::array<ActivationStatistics, kNumLinearKinds> statistics_;
  std::vector<float> host_rows_;  // The last input.
  std::vector<float> host_residual_;
  Status status_;
};

}  // namespace comet
