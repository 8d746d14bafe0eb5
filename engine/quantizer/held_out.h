#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/loader/accuracy_file.h"
#include "engine/loader/checkpoint.h"
#include "engine/loader/float_source.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// Perplexity of `windows`, each at least 2 tokens that start at position 0, before and after
// quantising: the float source with KV 16, then the checkpoint as it is served (its own KV formats)
// with INT8 activations and with its mix. Models are walked layer by layer, as in quantising: one
// layer and the hidden states of all windows are in memory, and once the vocabulary tables. A
// perplexity is NaN when a prediction has no finite likelihood. `progress` (may be null) is told
// what was measured. Errors: those of source and back end.
Result<HeldOutPerplexity> MeasureHeldOut(Backend& backend, FloatSource& source,
                                         const Checkpoint& checkpoint,
                                         std::span<const std::vector<int>> windows, int num_threads,
                                         const std::function<void(std::string_view)>& progress);

}  // namespace comet
