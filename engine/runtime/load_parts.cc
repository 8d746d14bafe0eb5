#include "engine/runtime/load_parts.h"

#include <memory>
#include <utility>

#include "engine/chat_template/named_templates.h"
#include "engine/loader/mapped_file.h"
#include "engine/model/model_source.h"
#include "engine/model/precision.h"
#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"
#include "kernels/timed_ops.h"

namespace comet {
namespace {

Result<std::string> ChatTemplateSource(const LoadOptions& options, const ModelSource& source) {
  if (options.chat_template_file.empty()) {
    return ChooseTemplate(source.chat_templates(), options.chat_template_name);
  }
  if (!options.chat_template_name.empty()) {
    return InvalidArgument(StrCat("chat template: \"", options.chat_template_name,
                                  "\" is asked for by name, expected none beside the file ",
                                  options.chat_template_file));
  }
  return ReadTextFile(options.chat_template_file, kTemplateBytesMax);
}

// The model's own context where none is asked for.
Status ResolveContext(int model_context, int& context) {
  if (context > model_context) {
    return InvalidArgument(StrCat("context length is ", context, ", expected at most ",
                                  model_context, ", what the model was made for"));
  }
  if (context == 0) context = model_context;
  return Status::Ok();
}

// How text becomes tokens and back.
Status LoadText(const LoadOptions& options, const ModelSource& source, EngineParts& parts) {
  COMET_ASSIGN_OR_RETURN(const std::string chat_template, ChatTemplateSource(options, source));
  COMET_ASSIGN_OR_RETURN(parts.tokenizer, Tokenizer::Create(source.vocabulary()));
  if (chat_template.empty()) return Status::Ok();
  COMET_ASSIGN_OR_RETURN(parts.chat_template, ChatTemplate::Parse(chat_template));
  return Status::Ok();
}

// The back end, and what it computes with.
Result<Precision> StartBackend(const LoadOptions& options, const ModelSource& source,
                               Backend& backend) {
  COMET_ASSIGN_OR_RETURN(backend, MakeBackend(options.backend));
  COMET_ASSIGN_OR_RETURN(const Precision precision,
                         source.ChoosePrecision(options.activation_bits, options.kv_bits,
                                                backend.ops->HasInt4Products()));
  if (options.check_activations) {
    COMET_RETURN_IF_ERROR(options.check_activations(std::string(ToString(precision.activations))));
  }
  if (options.has_timed_ops) {
    backend.ops = std::make_unique<TimedOps>(std::move(backend.ops), *backend.device);
  }
  return precision;
}

// Batches for the device, and the memory for them.
Status PlanLimits(const ModelSource& source, const Precision& precision, LoadedParts& loaded) {
  const Backend& backend = loaded.parts.backend;
  SchedulerConfig& scheduler = loaded.config.scheduler;
  scheduler = scheduler.ForDevice(backend.device->is_host());
  loaded.limits = {
      .step_tokens_max = scheduler.step_tokens_max,
      .sequences_max = scheduler.running_sequences_max,
      .logits_rows_max = scheduler.running_sequences_max,
      .pages_per_sequence_max = CeilDiv(loaded.config.context_length_max, kPageTokens)};
  COMET_ASSIGN_OR_RETURN(const DeviceMemory memory, backend.device->QueryMemory());
  const Ops& ops = *backend.ops;
  const MemoryNeeds needs{.weights_bytes = source.WeightsBytes(precision),
                          .activations_bytes = ActivationsBytes(
                              ops, source.config(), precision.activations, loaded.limits),
                          .kv_page_bytes = source.KvPageBytes(ops, precision),
                          .is_host = backend.device->is_host()};
  COMET_ASSIGN_OR_RETURN(loaded.memory, PlanMemory(loaded.config, loaded.limits, needs, memory));
  loaded.limits.num_pages = loaded.memory.num_pages;
  return Status::Ok();
}

}  // namespace

Result<LoadedParts> LoadParts(const LoadOptions& options) {
  COMET_RETURN_IF_ERROR(options.engine.Validate());
  COMET_ASSIGN_OR_RETURN(ModelSource source,
                         options.synthetic
                             ? Result<ModelSource>(ModelSource::Make(*options.synthetic))
                             : ModelSource::Open(options.model));
  LoadedParts loaded;
  loaded.config = options.engine;
  EngineParts& parts = loaded.parts;
  COMET_RETURN_IF_ERROR(
      ResolveContext(source.config().context_length_max, loaded.config.context_length_max));
  COMET_RETURN_IF_ERROR(LoadText(options, source, parts));
  COMET_ASSIGN_OR_RETURN(const Precision precision, StartBackend(options, source, parts.backend));
  COMET_RETURN_IF_ERROR(PlanLimits(source, precision, loaded));
  COMET_ASSIGN_OR_RETURN(parts.model, source.Load(parts.backend, precision, loaded.limits));
  return loaded;
}

}  // namespace comet
