#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/loader/checkpoint_writer.h"
#include "engine/quantizer/host_rows.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"
#include "kernels/ops/linear_input.h"

namespace comet {

// rows [num_tokens, K], in the order of the weights' channels, held as codes of an integer
// `format`, times weights [N, K] of integers: [num_tokens, N], by the ops that serve. Errors: those
// of the back end.
Status MultiplyCodes(Backend& backend, const ActivationFormat& format, std::span<const float> rows,
                     const PackedLinear& weights, HostRows& product);

// A quantised linear layer's product as serving computes it, without its bias.
class ServedProduct {
 public:
  // `hadamard`: see LayerPrecision::down_hadamard. Errors: those of the back end.
  static Result<ServedProduct> Make(Backend& backend, const QuantizedLinear& linear, bool hadamard);

  // Brings rows [num_tokens, K] from the producer's order to the layer's order and basis.
  void ToLayer(int num_threads, std::span<float> rows) const;

  // The product of such rows, which are replaced by what their codes stand for. Errors: those of
  // the back end.
  Status Run(Backend& backend, ActivationMode mode, int num_threads, std::span<float> rows,
             HostRows& product) const;

 private:
  std::unique_ptr<PackedLinear> weights_;
  float clip_ = 1.0f;
  bool hadamard_ = false;
  std::vector<int32_t> gather_;  // Empty: the identity.
};

}  // namespace comet
