#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/loader/checkpoint.h"
#include "engine/loader/float_source.h"
#include "engine/model/model.h"
#include "engine/model/synthetic_model.h"
#include "kernels/base/status.h"

namespace comet {

// Whatever a user names as a model: a comet checkpoint folder (4-bit weights), a FloatSource, which
// is a Hugging Face folder or a GGUF file (float weights), or a synthetic model (random 4-bit
// weights). Confined to one thread.
class ModelSource {
 public:
  // Errors: kNotFound; kFailedPrecondition, the path cannot be reached; those of the source's kind.
  static Result<ModelSource> Open(const std::string& path);
  static ModelSource Make(const SyntheticModel& synthetic);

  const ModelConfig& config() const;
  const Vocabulary& vocabulary() const;
  const std::vector<NamedTemplate>& chat_templates() const;    // Empty: none.
  bool has_codes() const { return float_source_ == nullptr; }  // 4-bit weights.

  // What the command line asks for, completed by what the source is: "auto" activations are the
  // checkpoint's mix where weights have 4 bits and the device has INT4 products, 8 bits for other
  // devices, and float for an unquantised source; "auto" KV bits are the checkpoint's own map, or
  // 16. Errors: kInvalidArgument when the source has no such mode.
  Result<Precision> ChoosePrecision(const std::string& activation_bits, const std::string& kv_bits,
                                    bool has_int4_products = false) const;

  // Device memory of the packed weights, to within the back end's alignment.
  int64_t WeightsBytes(const Precision& precision) const;
  // Bytes of one KV-cache page over every layer.
  int64_t KvPageBytes(const Ops& ops, const Precision& precision) const;

  Result<std::unique_ptr<Model>> Load(Backend& backend, const Precision& precision,
                                      const ModelLimits& limits);

 private:
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<FloatSource> float_source_;
  std::unique_ptr<SyntheticModel> synthetic_;
  Vocabulary synthetic_vocabulary_;
};

// Device memory that a Model of these limits holds beside weights and KV pages: activations, logits
// and rotary tables.
int64_t ActivationsBytes(const Ops& ops, const ModelConfig& config, ActivationMode activations,
                         const ModelLimits& limits);

}  // namespace comet
