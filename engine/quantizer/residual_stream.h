#pragma once

#include <span>
#include <utility>
#include <vector>

#include "engine/loader/float_source.h"
#include "engine/model/decoder_layer.h"
#include "engine/model/model_config.h"
#include "engine/model/rope.h"
#include "engine/quantizer/host_rows.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// Values of every calibration window: rows of its tokens, fp32.
using WindowRows = std::vector<HostRows>;

// All calibration windows on their way through one model, a linear at a time: what lets calibration
// stop at each linear, quantise it and go on with what it has become. Nothing is rounded. Confined
// to one thread.
class ResidualStream {
 public:
  // hidden: [window][num_tokens, hidden_size].
  static Result<ResidualStream> Create(Backend& backend, const ModelConfig& config,
                                       WindowRows hidden, int num_threads);

  // Enters a layer: inputs() are those of qkv.
  void BeginLayer(const FloatLayer& layer);

  // Applies the linear whose turn it is (qkv, o, gate_up, down) with `weights` [N, K] and goes on
  // to the next one's inputs; after down there are none. Returns those it had. Errors: those of the
  // back end.
  Result<WindowRows> Pass(LinearKind kind, const FloatLayer& layer, std::span<const float> weights);

  const WindowRows& hidden() const { return hidden_; }
  const WindowRows& inputs() const { return inputs_; }

 private:
  ResidualStream(Backend& backend, const ModelConfig& config, WindowRows hidden, int num_threads)
      : backend_(&backend),
        config_(config),
        num_threads_(num_threads),
        hidden_(std::move(hidden)) {}

  HostRows Attend(std::span<const float> qkv) const;
  HostRows Norm(std::span<const float> rows, std::span<const float> weight) const;

  Backend* backend_;
  ModelConfig config_;
  int num_threads_;
  RopeTables rope_;
  WindowRows hidden_;
  WindowRows inputs_;
};

}  // namespace comet
