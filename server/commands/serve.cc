#include "server/commands/serve.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "engine/loader/folder_config.h"
#include "engine/runtime/load_parts.h"
#include "engine/runtime/start_engine.h"
#include "kernels/base/str_cat.h"
#include "server/admin/admin_api.h"
#include "server/admin/metrics.h"
#include "server/admission/admission.h"
#include "server/api/version.h"
#include "server/commands/accuracy_gate.h"
#include "server/grpc/grpc_server.h"
#include "server/http/http_server.h"
#include "server/lifecycle/descriptor_limit.h"
#include "server/lifecycle/termination_signals.h"
#include "server/logging/log.h"
#include "server/openai/openai_api.h"

namespace comet {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kHealthInterval = std::chrono::milliseconds(100);  // Staleness of grpc.health.v1.
constexpr auto kCloseGrace = std::chrono::seconds(2);  // For last bytes, after the last token.
// For gRPC connections to close by themselves; a watch of the health service never ends.
constexpr auto kGrpcGrace = std::chrono::milliseconds(250);
constexpr auto kDrainInterval = std::chrono::milliseconds(10);
constexpr auto kSignalInterval = std::chrono::milliseconds(10);
// Open files beside HTTP's connections: connections being refused, gRPC's, the model's.
constexpr int kOtherDescriptors = 256;

// Until it is destroyed, a signal ends the process at once.
std::jthread ExitOnSignal(TerminationSignals& signals) {
  return std::jthread([&signals](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      if (!signals.WaitFor(kSignalInterval)) continue;
      COMET_LOG(kInfo, "stopped_while_loading");
      _exit(0);
    }
  });
}

// The daemon: everything long-lived, in the order of dependence, so that destruction runs from the
// sockets down to the engine. Confined to the main thread.
class Daemon {
 public:
  explicit Daemon(const ServeOptions& options)
      : options_(options), admission_(options.requests_in_flight_max) {}

  // Takes the HTTP port first: a port in use is told before a large model is loaded. That takes
  // long, and nobody is served yet: a signal during it needs no drain.
  Status Start(TerminationSignals& signals);
  Status Serve(TerminationSignals& signals);
  // Lets what runs finish within drain_seconds, and meanwhile tells new requests and probes that
  // the server is going. Nothing in flight: no wait.
  void Drain();

 private:
  // Refuses a checkpoint whose own report says that it is broken with the activations that will be
  // served.
  Status CheckAccuracy(const std::string& activation_bits) const;
  Status StartModel();
  void AddRoutes();
  Status StartFrontEnds();
  bool WaitAnswered(Clock::time_point end) const;
  std::string ModelName() const;

  const ServeOptions& options_;
  Router router_;
  const std::unique_ptr<Metrics> metrics_ = Metrics::Create();
  Admission admission_;
  std::unique_ptr<Engine> engine_;
  std::optional<PromptBuilder> prompts_;
  std::optional<WorkerPool> workers_;
  std::optional<OpenAiContext> openai_;
  std::optional<AdminContext> admin_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<HttpServer> http_;
};

Status Daemon::Start(TerminationSignals& signals) {
  const int64_t descriptors = RaiseDescriptorLimit();
  if (descriptors < options_.http.connections_max + kOtherDescriptors) {
    COMET_LOG(kWarn, "open_files_limit_low", {"limit", descriptors},
              {"http_connections_max", options_.http.connections_max});
  }
  COMET_ASSIGN_OR_RETURN(http_, HttpServer::Bind(options_.http, router_));
  {
    const std::jthread watcher = ExitOnSignal(signals);
    COMET_RETURN_IF_ERROR(StartModel());
  }
  AddRoutes();
  return StartFrontEnds();
}

Status Daemon::CheckAccuracy(const std::string& activation_bits) const {
  const AccuracyVerdict verdict =
      JudgeAccuracy(options_.model, activation_bits, options_.perplexity_ratio_max);
  if (!verdict.status.ok()) {
    if (options_.accuracy_check == "enforce") {
      return Status(verdict.status.code(),
                    StrCat(verdict.status.message(), "; --accuracy-check warn serves it anyway"));
    }
    COMET_LOG(kWarn, "accuracy_check_failed", {"reason", verdict.status.message()});
  } else if (verdict.perplexity_ratio) {
    COMET_LOG(kInfo, "accuracy_checked", {"activation_bits", activation_bits},
              {"perplexity_ratio", *verdict.perplexity_ratio});
  } else if (IsCometCheckpoint(options_.model)) {
    COMET_LOG(kWarn, "accuracy_unknown",
              {"reason", StrCat("the report has no held-out perplexity of ", kJudgedPredictionsMin,
                                " predictions or more: quantise again, with a longer text")});
  }
  return Status::Ok();
}

Status Daemon::StartModel() {
  const Clock::time_point start = Clock::now();
  LoadOptions load;
  load.model = options_.model;
  load.activation_bits = options_.activation_bits;
  load.kv_bits = options_.kv_bits;
  load.chat_template_file = options_.chat_template_file;
  load.chat_template_name = options_.chat_template_name;
  load.backend = options_.backend;
  load.engine = options_.engine;
  load.check_activations = [this](const std::string& activation_bits) {
    return CheckAccuracy(activation_bits);
  };
  COMET_ASSIGN_OR_RETURN(LoadedParts loaded, LoadParts(load));
  const std::string device(loaded.parts.backend.device->description());
  const ModelMemory memory = loaded.parts.model->memory();
  COMET_ASSIGN_OR_RETURN(
      engine_, StartEngine(std::move(loaded.parts), loaded.limits, loaded.config, metrics_.get()));
  metrics_->Attach(engine_.get(), &admission_);
  COMET_LOG(kInfo, "model_loaded", {"model", ModelName()}, {"device", device},
            {"weights_bytes", memory.weights_bytes},
            {"kv_cache_bytes", memory.kv_page_bytes * loaded.limits.num_pages},
            {"context_length_max", engine_->config().context_length_max},
            {"step_tokens_max", engine_->config().scheduler.step_tokens_max},
            {"running_sequences_max", engine_->config().scheduler.running_sequences_max},
            {"total_seconds", std::chrono::duration<double>(Clock::now() - start).count()});
  return Status::Ok();
}

// The path's name and not the one inside the file: users choose the former and can type it.
std::string Daemon::ModelName() const {
  if (!options_.served_model_name.empty()) return options_.served_model_name;
  const std::filesystem::path path(options_.model);
  const std::filesystem::path last = path.has_filename() ? path : path.parent_path();
  // Other dots belong to the name: "llama-3.1-8b".
  const bool is_extension = last.extension() == ".gguf" || last.extension() == ".comet";
  return (is_extension ? last.stem() : last.filename()).string();
}

void Daemon::AddRoutes() {
  prompts_.emplace(*engine_);
  workers_.emplace(options_.workers);
  const SchedulerConfig& scheduler = engine_->config().scheduler;
  ApiLimits limits;
  limits.choices_max = scheduler.choices_max;
  limits.vocab_size = engine_->tokenizer().vocab_size();
  limits.deadline_ms_max = scheduler.request_deadline_ms;
  openai_.emplace(OpenAiContext{.engine = *engine_,
                                .prompts = *prompts_,
                                .workers = *workers_,
                                .admission = admission_,
                                .limits = limits,
                                .json_limits = options_.json,
                                .model_name = ModelName(),
                                .created = std::time(nullptr)});
  admin_.emplace(AdminContext{.engine = *engine_, .admission = admission_, .metrics = *metrics_});
  AddOpenAiRoutes(*openai_, router_);
  AddAdminRoutes(*admin_, router_);
}

Status Daemon::StartFrontEnds() {
  if (options_.grpc.port >= 0) {
    const GrpcContext context{.engine = *engine_,
                              .prompts = *prompts_,
                              .workers = *workers_,
                              .admission = admission_,
                              .model_name = openai_->model_name,
                              .retry_after_seconds = options_.http.retry_after_seconds,
                              .write_ms_max = options_.grpc.write_ms_max};
    COMET_ASSIGN_OR_RETURN(grpc_, GrpcServer::Start(options_.grpc, context));
  }
  COMET_RETURN_IF_ERROR(http_->Start());
  COMET_LOG(kInfo, "serving", {"host", options_.host}, {"http_port", http_->port()},
            {"grpc_port", grpc_ == nullptr ? -1 : grpc_->port()},
            {"http_threads", http_->num_threads()}, {"model", openai_->model_name});
  return Status::Ok();
}

// Until a signal comes, or the device fails: it does not heal while the process lives.
Status Daemon::Serve(TerminationSignals& signals) {
  while (!signals.WaitFor(kHealthInterval)) {
    if (grpc_ != nullptr) grpc_->SetServing(CheckReady(*admin_).ok());
    COMET_RETURN_IF_ERROR(engine_->CheckDevice());
  }
  return Status::Ok();
}

// Until no request is in flight in any front end: their last bytes are out.
bool Daemon::WaitAnswered(Clock::time_point end) const {
  while (admission_.num_in_flight() > 0) {
    if (Clock::now() >= end) return false;
    std::this_thread::sleep_for(kDrainInterval);
  }
  return true;
}

void Daemon::Drain() {
  const Clock::time_point end = Clock::now() + std::chrono::seconds(options_.drain_seconds);
  const auto left = [end] {
    return std::max(std::chrono::milliseconds(0),
                    std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()));
  };
  COMET_LOG(kInfo, "draining", {"requests_in_flight", admission_.num_in_flight()});
  admission_.BeginDrain();
  engine_->BeginDrain();
  http_->BeginDrain();
  if (grpc_ != nullptr) grpc_->SetServing(false);
  // Answers that are written slowly count until the end; after it they get the grace.
  const bool has_finished = engine_->WaitDrained(left());
  const bool has_answered = WaitAnswered(std::max(end, Clock::now() + kCloseGrace));
  http_->Close();
  if (grpc_ != nullptr) grpc_->Shutdown(kGrpcGrace);
  const bool has_closed = http_->WaitDrained(kCloseGrace);
  if (has_finished && has_answered && has_closed) {
    COMET_LOG(kInfo, "drained");
  } else {
    COMET_LOG(kWarn, "drain_timeout", {"requests_in_flight", admission_.num_in_flight()});
  }
}

}  // namespace

Status RunServe(const ServeOptions& options) {
  TerminationSignals signals;
  COMET_ASSIGN_OR_RETURN(const LogLevel log_level, ParseLogLevel(options.log_level));
  SetLogLevel(log_level);
  COMET_LOG(kInfo, "configuration", {"version", Version()}, {"options", ToJson(options)});
  Daemon daemon(options);
  const Status started = daemon.Start(signals);
  if (!started.ok()) {
    COMET_LOG(kError, "start_failed", {"reason", started.message()});
    return started;
  }
  const Status served = daemon.Serve(signals);
  if (!served.ok()) COMET_LOG(kError, "device_failed", {"reason", served.message()});
  signals.ExitOnNext();
  daemon.Drain();
  return served;
}

}  // namespace comet
