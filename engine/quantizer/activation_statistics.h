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
  std::vector<double> sum_sq;  // [K]
  std::vector<float> gram;     // [K, K]: sum of x x^T, each x scaled to mean square 1, so that
                               // the few tokens of huge activations do not outvote all others
  std::vector<float> sample;   // [num_sample_tokens, K]: evenly spaced tokens
  int num_sample_tokens = 0;

  // Mean square of each channel, raised to a hundredth of the mean of all: a channel that the
  // calibration text leaves silent still counts.
  std::vector<float> Importance() const;
};

// Collects the inputs of the four linears of one layer, fp32, over several windows. A token is
// sampled where its index is a multiple of `sample_stride`. Confined to one thread.
class StatisticsObserver final : public LayerObserver {
 public:
  StatisticsObserver(Backend& backend, int sample_stride)
      : backend_(backend), sample_stride_(sample_stride) {}

  void OnLinearInput(LinearKind kind, const LinearInput& input) override;

  const ActivationStatistics& of(LinearKind kind) const {
    return statistics_[static_cast<size_t>(kind)];
  }
  // The first fault of the back end.
  const Status& status() const { return status_; }

 private:
  Status Observe(const LinearInput& input, ActivationStatistics& statistics);
  void Add(std::span<const float> rows, ActivationStatistics& statistics);
  Status AddGram(std::span<const float> rows, ActivationStatistics& statistics);

  Backend& backend_;
  int sample_stride_;
  std::array<ActivationStatistics, kNumLinearKinds> statistics_;
  std::vector<float> host_rows_;
  Status status_;
};

}  // namespace comet
