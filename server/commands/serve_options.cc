#include "server/commands/serve_options.h"

#include <charconv>
#include <fstream>
#include <set>
#include <sstream>

#include <nlohmann/json.hpp>

#include "engine/config/config_check.h"
#include "engine/model/precision.h"
#include "kernels/base/str_cat.h"
#include "server/json/config_file.h"
#include "server/logging/log.h"

namespace comet {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kTop = "";
constexpr std::string_view kEngine = "engine";
constexpr std::string_view kScheduler = "engine.scheduler";
constexpr std::string_view kKvCache = "engine.kv_cache";
constexpr std::string_view kHttp = "http";
constexpr std::string_view kGrpc = "grpc";
constexpr std::string_view kWorkers = "workers";
constexpr std::string_view kJson = "json";

void AddModelRules(ServeOptions& o, std::vector<OptionRule>& rules) {
  rules.insert(
      rules.end(),
      {{kTop, "model", "--model",
        "Checkpoint, or, unquantised, a Hugging Face folder or .gguf file", &o.model},
       {kTop, "served_model_name", "--served-model-name",
        "Name clients use; empty: the last part of its path", &o.served_model_name},
       {kTop, "device", "--device", "cpu, reference or cuda", &o.backend.device},
       {kTop, "cpu_isa", "--cpu-isa", "auto, scalar, avx2 or avx512vnni", &o.backend.cpu_isa},
       {kTop, "threads", "--threads", "Compute threads; 0: what the cgroup allows",
        &o.backend.num_threads},
       {kTop, "activation_bits", "--activation-bits", "auto, mixed, 8 or float",
        &o.activation_bits},
       {kTop, "kv_bits", "--kv-bits", "auto, 4, 8, 16, 32 or K/V as in 8/4", &o.kv_bits},
       {kTop, "chat_template_file", "--chat-template",
        "Jinja file used instead of the model's own template", &o.chat_template_file},
       {kTop, "chat_template_name", "--chat-template-name",
        "Which of the model's own templates, e.g. tool_use; empty: default", &o.chat_template_name},
       {kTop, "accuracy_check", "--accuracy-check",
        "enforce: refuse a checkpoint whose accuracy report says it is broken; warn: serve it",
        &o.accuracy_check},
       {kTop, "perplexity_ratio_max", "--perplexity-ratio-max",
        "Held-out perplexity over the float model's that counts as broken beyond",
        &o.perplexity_ratio_max},
       {kTop, "host", "--host", "IP address to listen on", &o.host},
       {kTop, "port", "--port", "HTTP port; 0: any free one", &o.http.port},
       {kTop, "grpc_port", "--grpc-port", "gRPC port; 0: any free one, -1: no gRPC", &o.grpc.port},
       {kTop, "log_level", "--log-level", "debug, info, warn or error", &o.log_level},
       {kTop, "drain_seconds", "--drain-seconds", "Time streams have to finish after SIGTERM",
        &o.drain_seconds},
       {kTop, "requests_in_flight_max", "--requests-in-flight-max",
        "Requests of all front ends at once; 429 beyond", &o.requests_in_flight_max}});
}

void AddEngineRules(ServeOptions& o, std::vector<OptionRule>& rules) {
  SchedulerConfig& scheduler = o.engine.scheduler;
  rules.insert(
      rules.end(),
      {{kEngine, "context_length_max", "--context-length",
        "Tokens of one sequence; 0: the model's own", &o.engine.context_length_max},
       {kEngine, "stall_ms_max", "--stall-ms-max", "A longer step makes the server unready",
        &o.engine.stall_ms_max},
       {kEngine, "works_ahead", "--works-ahead",
        "true: plan and issue a step while a GPU computes the one before", &o.engine.works_ahead},
       {kEngine, "decode_graphs", "--decode-graphs",
        "true: capture decode steps at the start, to issue each by one call on a GPU",
        &o.engine.decode_graphs},
       {kKvCache, "bytes_max", "--kv-cache-bytes", "KV cache memory; 0: by memory_fraction",
        &o.engine.kv_cache.bytes_max},
       {kKvCache, "memory_fraction", "--kv-cache-memory-fraction",
        "Share of the memory left after loading; 0: all of a GPU's but a reserve, half of a host's",
        &o.engine.kv_cache.memory_fraction},
       {kScheduler, "step_tokens_max", "--step-tokens-max",
        "Tokens computed in one step; 0: 512 on a host, 2048 on a GPU", &scheduler.step_tokens_max},
       {kScheduler, "running_sequences_max", "--running-sequences-max",
        "Sequences that hold KV pages at once; 0: 64 on a host, 512 on a GPU",
        &scheduler.running_sequences_max},
       {kScheduler, "waiting_sequences_max", "--waiting-sequences-max",
        "Queued sequences; 429 beyond", &scheduler.waiting_sequences_max},
       {kScheduler, "waiting_tokens_max", "--waiting-tokens-max",
        "Queued prompt tokens; 429 beyond", &scheduler.waiting_tokens_max},
       {kScheduler, "choices_max", "--choices-max", "Largest n of one request",
        &scheduler.choices_max},
       {kScheduler, "request_deadline_ms", "--request-deadline-ms",
        "From submission to the last token", &scheduler.request_deadline_ms},
       {kScheduler, "aging_ms", "--aging-ms", "Waiting this long is worth one level of priority",
        &scheduler.aging_ms}});
}

void AddServerRules(ServeOptions& o, std::vector<OptionRule>& rules) {
  rules.insert(
      rules.end(),
      {{kHttp, "num_threads", "--http-threads", "I/O threads; 0: a quarter of the cores, 1 to 8",
        &o.http.num_threads},
       {kHttp, "connections_max", "--http-connections-max", "Open connections; 503 beyond",
        &o.http.connections_max},
       {kHttp, "body_bytes_max", "--http-body-bytes-max", "Request body; 413 beyond",
        &o.http.body_bytes_max},
       {kHttp, "header_bytes_max", "--http-header-bytes-max", "Request header; 431 beyond",
        &o.http.header_bytes_max},
       {kHttp, "idle_ms_max", "--http-idle-ms-max", "Silence between requests",
        &o.http.idle_ms_max},
       {kHttp, "read_ms_max", "--http-read-ms-max", "For a whole request to arrive; 408 beyond",
        &o.http.read_ms_max},
       {kHttp, "write_ms_max", "--http-write-ms-max", "For a client to take one write",
        &o.http.write_ms_max},
       {kHttp, "linger_ms_max", "--http-linger-ms-max", "Reading on from a client that was refused",
        &o.http.linger_ms_max},
       {kHttp, "send_buffer_bytes", "--http-send-buffer-bytes",
        "Kernel buffer of a connection; 0: the system's", &o.http.send_buffer_bytes},
       {kHttp, "retry_after_seconds", "--http-retry-after-seconds", "Told with 429 and 503",
        &o.http.retry_after_seconds},
       {kGrpc, "message_bytes_max", "--grpc-message-bytes-max", "One request message",
        &o.grpc.message_bytes_max},
       {kGrpc, "streams_max", "--grpc-streams-max", "Calls at once on one connection",
        &o.grpc.streams_max},
       {kGrpc, "write_ms_max", "--grpc-write-ms-max", "For a client to take one write",
        &o.grpc.write_ms_max},
       {kGrpc, "num_threads", "--grpc-threads", "Detokenize and write", &o.grpc.num_threads},
       {kWorkers, "num_threads", "--worker-threads", "Read bodies, render templates, tokenize",
        &o.workers.num_threads},
       {kWorkers, "waiting_max", "--worker-jobs-max", "Jobs waiting for a worker; 429 beyond",
        &o.workers.waiting_max},
       {kJson, "depth_max", "--json-depth-max", "Nesting of a request body", &o.json.depth_max},
       {kJson, "values_max", "--json-values-max", "Values in a request body", &o.json.values_max}});
}

template <typename T>
Status SetNumber(const OptionRule& rule, const std::string& text, T& target) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return InvalidArgument(StrCat(rule.flag, ": value is \"", text, "\", expected a number"));
  }
  target = value;
  return Status::Ok();
}

Status SetBool(const OptionRule& rule, const std::string& text, bool& target) {
  if (text != "true" && text != "false") {
    return InvalidArgument(StrCat(rule.flag, ": value is \"", text, "\", expected true or false"));
  }
  target = text == "true";
  return Status::Ok();
}

// "engine.scheduler" as the object that holds its keys; null when the file has none.
const Json* FindSection(const Json& root, std::string_view section) {
  const Json* object = &root;
  while (!section.empty()) {
    const size_t dot = section.find('.');
    const std::string name(section.substr(0, dot));
    if (!object->is_object() || !object->contains(name)) return nullptr;
    object = &(*object)[name];
    section = dot == std::string_view::npos ? std::string_view() : section.substr(dot + 1);
  }
  return object;
}

bool IsParent(std::string_view parent, std::string_view section) {
  if (section.empty() || parent == section) return false;
  const std::string_view rest =
      parent.empty() ? section : section.substr(std::min(parent.size() + 1, section.size()));
  const bool is_below = parent.empty() || section.starts_with(std::string(parent) + ".");
  return is_below && rest.find('.') == std::string_view::npos;
}

Status ReadSection(const Json& root, std::string_view section,
                   const std::set<std::string_view>& sections,
                   const std::vector<OptionRule>& rules) {
  const Json* object = FindSection(root, section);
  if (object == nullptr) return Status::Ok();
  ConfigSection reader(*object, std::string(section));
  for (const OptionRule& rule : rules) {
    if (rule.section != section) continue;
    std::visit([&](auto* target) { reader.Read(rule.key, *target); }, rule.target);
  }
  // Sub-sections are keys too, read in their own turn.
  for (const std::string_view other : sections) {
    if (IsParent(section, other)) reader.Skip(other.substr(other.rfind('.') + 1));
  }
  return reader.Finish();
}

}  // namespace

std::vector<OptionRule> ServeOptionRules(ServeOptions& options) {
  std::vector<OptionRule> rules;
  AddModelRules(options, rules);
  AddEngineRules(options, rules);
  AddServerRules(options, rules);
  return rules;
}

std::string OptionText(const OptionRule& rule) {
  if (bool* const* flag = std::get_if<bool*>(&rule.target)) return **flag ? "true" : "false";
  return std::visit([](auto* target) { return StrCat(*target); }, rule.target);
}

Status ServeOptions::Validate() const {
  ConfigCheck check("serve");
  check.Require(!model.empty(), "model is empty, expected a checkpoint: --model");
  if (activation_bits != "auto") check.Merge(ParseActivationMode(activation_bits).status());
  if (kv_bits != "auto") check.Merge(ParseKvFormat(kv_bits).status());
  check.Require(accuracy_check == "enforce" || accuracy_check == "warn",
                "accuracy_check is neither enforce nor warn");
  check.Require(perplexity_ratio_max >= 1.0, "perplexity_ratio_max is below 1");
  check.AtLeast("drain_seconds", drain_seconds, 0);
  check.AtLeast("requests_in_flight_max", requests_in_flight_max, 1);
  check.InRange("workers.num_threads", workers.num_threads, 1, 256);
  check.AtLeast("workers.waiting_max", workers.waiting_max, 1);
  check.InRange("json.depth_max", json.depth_max, 1, 64);
  check.AtLeast("json.values_max", json.values_max, int64_t{1});
  check.Merge(ParseLogLevel(log_level).status());
  check.Merge(backend.Validate());
  check.Merge(engine.Validate());
  check.Merge(http.Validate());
  check.Merge(grpc.Validate());
  return check.status();
}

Status ReadServeConfig(const std::string& path, ServeOptions& options) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return NotFound(StrCat("config: cannot read ", path));
  std::ostringstream text;
  text << file.rdbuf();
  COMET_ASSIGN_OR_RETURN(const Json root, ParseConfigText(path, text.str()));
  const std::vector<OptionRule> rules = ServeOptionRules(options);
  std::set<std::string_view> sections;
  for (const OptionRule& rule : rules) sections.insert(rule.section);
  ConfigCheck check("config");
  for (const std::string_view section : sections) {
    check.Merge(ReadSection(root, section, sections, rules));
  }
  return check.status();
}

Status SetServeOption(std::string_view flag, const std::string& text, ServeOptions& options) {
  for (const OptionRule& rule : ServeOptionRules(options)) {
    if (rule.flag != flag) continue;
    return std::visit(
        [&]<typename T>(T* target) -> Status {
          if constexpr (std::is_same_v<T, std::string>) {
            *target = text;
            return Status::Ok();
          } else if constexpr (std::is_same_v<T, bool>) {
            return SetBool(rule, text, *target);
          } else {
            return SetNumber(rule, text, *target);
          }
        },
        rule.target);
  }
  return InvalidArgument(StrCat(flag, ": unknown option"));
}

Result<ServeOptions> LoadServeOptions(
    const std::string& config_path, const std::vector<std::pair<std::string, std::string>>& flags) {
  ServeOptions options;
  if (!config_path.empty()) COMET_RETURN_IF_ERROR(ReadServeConfig(config_path, options));
  for (const auto& [flag, text] : flags) {
    COMET_RETURN_IF_ERROR(SetServeOption(flag, text, options));
  }
  options.http.host = options.host;
  options.grpc.host = options.host;
  COMET_RETURN_IF_ERROR(options.Validate());
  return options;
}

nlohmann::ordered_json ToJson(const ServeOptions& options) {
  ServeOptions copy = options;
  nlohmann::ordered_json root;
  for (const OptionRule& rule : ServeOptionRules(copy)) {
    nlohmann::ordered_json* object = &root;
    std::string_view rest = rule.section;
    while (!rest.empty()) {
      const size_t dot = rest.find('.');
      object = &(*object)[std::string(rest.substr(0, dot))];
      rest = dot == std::string_view::npos ? std::string_view() : rest.substr(dot + 1);
    }
    std::visit([&](auto* target) { (*object)[std::string(rule.key)] = *target; }, rule.target);
  }
  return root;
}

}  // namespace comet
