#include "server/admin/metrics.h"

#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "kernels/base/thread_annotations.h"
#include "server/api/finish_reason.h"
#include "server/api/version.h"

namespace comet {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Histogram;
using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr std::array kFinishReasons = {FinishReason::kStop, FinishReason::kLength,
                                       FinishReason::kCancelled, FinishReason::kDeadline,
                                       FinishReason::kError};

// Seconds. A first token takes from one step to a full queue; a next one from a fraction of a
// millisecond on a GPU to a second on a busy CPU.
const Histogram::BucketBoundaries kFirstTokenBuckets = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                        1,     2.5,  5,     10,   30,  60};
const Histogram::BucketBoundaries kNextTokenBuckets = {
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2.5};
const Histogram::BucketBoundaries kRequestBuckets = {0.1, 0.25, 0.5, 1,  2.5, 5,
                                                     10,  20,   40,  80, 160, 320};
const Histogram::BucketBoundaries kQueueBuckets = {0.001, 0.005, 0.01, 0.05, 0.1, 0.5,
                                                   1,     2.5,   5,    10,   30,  60};
const Histogram::BucketBoundaries kStepBuckets = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                  0.1,    0.25,  0.5,    1,     2.5,  10};
const Histogram::BucketBoundaries kStepHostBuckets = {0.00001, 0.000025, 0.00005, 0.0001, 0.00025,
                                                      0.0005,  0.001,    0.0025,  0.01,   0.1};

MetricFamily MakeFamily(const char* name, const char* help, MetricType type) {
  MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  return family;
}

MetricFamily Single(const char* name, const char* help, MetricType type, double value) {
  MetricFamily family = MakeFamily(name, help, type);
  prometheus::ClientMetric& metric = family.metric.emplace_back();
  metric.counter.value = value;
  metric.gauge.value = value;
  return family;
}

// The text after each name is the decision the metric serves.
class PrometheusMetrics final : public Metrics {
 public:
  PrometheusMetrics();

  void Attach(const Engine* engine, const Admission* admission) override;
  std::string Scrape() const override;

  void OnStarted(double seconds) override { queue_time_.Observe(seconds); }
  void OnFirstToken(double seconds) override { first_token_.Observe(seconds); }
  void OnNextToken(double seconds) override { next_token_.Observe(seconds); }
  void OnFinished(FinishReason reason, double seconds) override;
  void OnStep(const StepTimes& times) override;

 private:
  Histogram& AddHistogram(const char* name, const char* help,
                          const Histogram::BucketBoundaries& buckets);

  prometheus::Registry registry_;
  Histogram& first_token_;
  Histogram& next_token_;
  Histogram& request_latency_;
  Histogram& queue_time_;
  Histogram& step_duration_;
  Histogram& step_host_;
  std::array<Counter*, kFinishReasons.size()> requests_{};

  mutable std::mutex mutex_;
  const Engine* engine_ COMET_GUARDED_BY(mutex_) = nullptr;
  const Admission* admission_ COMET_GUARDED_BY(mutex_) = nullptr;
};

PrometheusMetrics::PrometheusMetrics()
    : first_token_(AddHistogram("comet_time_to_first_token_seconds",
                                "From submission to the first token. Add replicas or lower "
                                "step_tokens_max when it grows.",
                                kFirstTokenBuckets)),
      next_token_(AddHistogram("comet_inter_token_latency_seconds",
                               "Between tokens of a sequence. Lower running_sequences_max or "
                               "step_tokens_max when it grows.",
                               kNextTokenBuckets)),
      request_latency_(AddHistogram("comet_e2e_request_latency_seconds",
                                    "From submission to the last token. Set client timeouts by it.",
                                    kRequestBuckets)),
      queue_time_(
          AddHistogram("comet_request_queue_time_seconds",
                       "From submission to the first step. Add replicas when it is not near zero.",
                       kQueueBuckets)),
      step_duration_(AddHistogram("comet_step_duration_seconds",
                                  "Of one step. Tells a slow device from a long queue.",
                                  kStepBuckets)),
      step_host_(AddHistogram(
          "comet_step_host_seconds",
          "Of a step, the host's part. On a GPU it includes waiting where a queue of launches is "
          "full, so a large one limits throughput only when the device idles.",
          kStepHostBuckets)) {
  Family<Counter>& requests =
      prometheus::BuildCounter()
          .Name("comet_requests_total")
          .Help("Finished requests by reason. Alert on the share of error and deadline.")
          .Register(registry_);
  for (size_t i = 0; i < kFinishReasons.size(); ++i) {
    requests_[i] = &requests.Add({{"reason", std::string(ToString(kFinishReasons[i]))}});
  }
  prometheus::BuildGauge()
      .Name("comet_build_info")
      .Help("Always 1; its label tells which version a replica runs during a roll-out.")
      .Register(registry_)
      .Add({{"version", std::string(Version())}})
      .Set(1);
}

Histogram& PrometheusMetrics::AddHistogram(const char* name, const char* help,
                                           const Histogram::BucketBoundaries& buckets) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_).Add({}, buckets);
}

void PrometheusMetrics::Attach(const Engine* engine, const Admission* admission) {
  const std::lock_guard lock(mutex_);
  engine_ = engine;
  admission_ = admission;
}

void PrometheusMetrics::OnFinished(FinishReason reason, double seconds) {
  request_latency_.Observe(seconds);
  for (size_t i = 0; i < kFinishReasons.size(); ++i) {
    if (kFinishReasons[i] == reason) requests_[i]->Increment();
  }
}

void PrometheusMetrics::OnStep(const StepTimes& times) {
  step_duration_.Observe(times.step_seconds);
  step_host_.Observe(times.host_seconds);
}

void AddEngineFamilies(const EngineStats& stats, std::vector<MetricFamily>& families) {
  const double usage = stats.num_pages_total == 0
                           ? 0.0
                           : static_cast<double>(stats.num_pages_used) / stats.num_pages_total;
  const double age = std::chrono::duration<double>(stats.last_step_age).count();
  const auto gauge = [&](const char* name, const char* help, double value) {
    families.push_back(Single(name, help, MetricType::Gauge, value));
  };
  const auto counter = [&](const char* name, const char* help, int64_t value) {
    families.push_back(Single(name, help, MetricType::Counter, static_cast<double>(value)));
  };
  gauge("comet_num_requests_running",
        "Sequences (choices of requests) being computed. Routers balance by it.",
        stats.num_sequences_running);
  gauge("comet_num_requests_waiting",
        "Sequences (choices of requests) that wait. Autoscalers add replicas by it.",
        stats.num_sequences_waiting);
  gauge("comet_kv_cache_usage_ratio",
        "Used share of the KV pages. Near 1 with preemptions: give the cache more memory.", usage);
  gauge("comet_engine_last_step_age_seconds",
        "Since the last step ended, 0 while idle. Restart the replica when it keeps growing.", age);
  counter("comet_preemptions_total",
          "Sequences that lost their pages and are computed again. Give the cache more memory.",
          stats.preemptions_total);
  counter("comet_prompt_tokens_total", "Prompt tokens computed. Plan capacity by it.",
          stats.prompt_tokens_total);
  counter("comet_generation_tokens_total", "Tokens generated. Plan capacity by it.",
          stats.generation_tokens_total);
  counter("comet_nan_logits_total",
          "Rows of logits with a NaN or infinity. Not 0: take the checkpoint or device out.",
          stats.nan_logits_total);
}

MetricFamily RejectionsFamily(const Admission& admission) {
  MetricFamily family = MakeFamily(
      "comet_admission_rejections_total",
      "Requests turned away, by reason. Add replicas, or raise the limit the reason names.",
      MetricType::Counter);
  for (const Rejection reason : kRejections) {
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    metric.label = {{"reason", std::string(ToString(reason))}};
    metric.counter.value = static_cast<double>(admission.num_rejections(reason));
  }
  return family;
}

std::string PrometheusMetrics::Scrape() const {
  std::vector<MetricFamily> families = registry_.Collect();
  {
    const std::lock_guard lock(mutex_);
    if (engine_ != nullptr) AddEngineFamilies(engine_->stats(), families);
    if (admission_ != nullptr) families.push_back(RejectionsFamily(*admission_));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace

std::unique_ptr<Metrics> Metrics::Create() { return std::make_unique<PrometheusMetrics>(); }

}  // namespace comet
