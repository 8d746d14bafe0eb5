#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "engine/loader/float_source.h"
#include "engine/model/model_config.h"
#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"

namespace comet {

// Whether the vocabulary belongs to the model: an id that the tokenizer can give has a row in the
// embedding. A table may have more rows than tokens. Errors: kInvalidArgument.
Status CheckVocabulary(const ModelConfig& config, const Vocabulary& vocabulary);

// Shapes as the config says and no NaN or infinity anywhere: a search for the least error would
// otherwise pick at random. Errors: kDataLoss naming layer, tensor and place.
Status CheckLayer(const ModelConfig& config, int layer_idx, const FloatLayer& layer);

// The same for a tensor outside the layers.
Status CheckTensor(std::string_view name, const std::vector<float>& values, size_t expected_size);

}  // namespace comet
