#include "engine/runtime/load_parts.h"

#include <algorithm>
#include <utility>

#include "engine/chat_template/named_templates.h"
#include "engine/loader/mapped_file.h"
#include "engine/model/model_source.h"
#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;
constexpr int64_t kChatTemplateBytesMax = 4 << 20;

std::string Mebibytes(int64_t bytes) {
  return StrCat(static_cast<int64_t>(static_cast<double>(bytes) / kMiB) + 1, " MiB");
}

Result<std::string> ChatTemplateSource(const LoadOptions& options, const ModelSource& source) {
  if (options.chat_template_file.empty()) {
    return ChooseTemplate(source.chat_templates(), options.chat_template_name);
  }
  if (!options.chat_template_name.empty()) {
    return InvalidArgument(StrCat("chat template: \"", options.chat_template_name,
                                  "\" is asked for by name, expected none beside the file ",
                                  options.chat_template_file));
  }
  return ReadTextFile(options.chat_template_file, kChatTemplateBytesMax);
}

// Pages of the pool: what the configuration grants, at most what running_sequences_max full
// sequences can use, at least one full sequence.
Result<int> PlanPages(const EngineConfig& config, const ModelLimits& limits, int64_t page_bytes,
                      int64_t fixed_bytes, int64_t free_bytes) {
  const int64_t left_bytes = free_bytes - fixed_bytes;
  const int64_t sequence_bytes = page_bytes * limits.pages_per_sequence_max;
  const int64_t pool_bytes =
      config.kv_cache.bytes_max > 0
          ? config.kv_cache.bytes_max
          : static_cast<int64_t>(static_cast<double>(left_bytes) * config.kv_cache.memory_fraction);
  if (left_bytes < sequence_bytes || pool_bytes > left_bytes) {
    return ResourceExhausted(
        StrCat("memory: ", Mebibytes(fixed_bytes + std::max(pool_bytes, sequence_bytes)),
               " are needed (", Mebibytes(fixed_bytes), " weights and activations, ",
               Mebibytes(std::max(pool_bytes, sequence_bytes)), " KV cache), the device has ",
               Mebibytes(free_bytes), ": lower --context-length or --kv-cache-bytes"));
  }
  if (pool_bytes < sequence_bytes) {
    return InvalidArgument(StrCat("kv_cache: ", Mebibytes(pool_bytes), " hold no sequence of ",
                                  limits.pages_per_sequence_max * kPageTokens,
                                  " tokens, which takes ", Mebibytes(sequence_bytes),
                                  ": raise --kv-cache-bytes or lower --context-length"));
  }
  const int64_t useful = static_cast<int64_t>(limits.sequences_max) * limits.pages_per_sequence_max;
  return static_cast<int>(std::min(pool_bytes / page_bytes, useful));
}

}  // namespace

Result<LoadedParts> LoadParts(const LoadOptions& options) {
  COMET_RETURN_IF_ERROR(options.engine.Validate());
  COMET_ASSIGN_OR_RETURN(ModelSource source, ModelSource::Open(options.model));
  COMET_ASSIGN_OR_RETURN(const std::string chat_template, ChatTemplateSource(options, source));

  LoadedParts loaded;
  loaded.config = options.engine;
  int& context = loaded.config.context_length_max;
  const int model_context = source.config().context_length_max;
  if (context > model_context) {
    return InvalidArgument(StrCat("context length is ", context, ", expected at most ",
                                  model_context, ", what the model was made for"));
  }
  if (context == 0) context = model_context;

  EngineParts& parts = loaded.parts;
  COMET_ASSIGN_OR_RETURN(parts.tokenizer, Tokenizer::Create(source.vocabulary()));
  if (!chat_template.empty()) {
    COMET_ASSIGN_OR_RETURN(parts.chat_template, ChatTemplate::Parse(chat_template));
  }
  COMET_ASSIGN_OR_RETURN(parts.backend, MakeBackend(options.backend));
  COMET_ASSIGN_OR_RETURN(const Precision precision,
                         source.ChoosePrecision(options.activation_bits, options.kv_bits,
                                                parts.backend.ops->HasInt4Products()));

  loaded.limits = {.step_tokens_max = loaded.config.scheduler.step_tokens_max,
                   .sequences_max = loaded.config.scheduler.running_sequences_max,
                   .logits_rows_max = loaded.config.scheduler.running_sequences_max,
                   .pages_per_sequence_max = CeilDiv(context, kPageTokens)};
  COMET_ASSIGN_OR_RETURN(const DeviceMemory memory, parts.backend.device->QueryMemory());
  const int64_t fixed_bytes =
      source.WeightsBytes(precision) +
      ActivationsBytes(*parts.backend.ops, source.config(), precision.activations, loaded.limits);
  COMET_ASSIGN_OR_RETURN(
      loaded.limits.num_pages,
      PlanPages(loaded.config, loaded.limits, source.KvPageBytes(*parts.backend.ops, precision),
                fixed_bytes, memory.free_bytes));
  COMET_ASSIGN_OR_RETURN(parts.model, source.Load(parts.backend, precision, loaded.limits));
  return loaded;
}

}  // namespace comet
