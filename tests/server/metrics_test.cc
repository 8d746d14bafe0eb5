#include "server/admin/metrics.h"

#include <gtest/gtest.h>

#include <string>

namespace comet {
namespace {

bool HasLine(const std::string& text, const std::string& line) {
  return text.find("\n" + line + "\n") != std::string::npos;
}

TEST(Metrics, CountsFinishedRequestsByReason) {
  const auto metrics = Metrics::Create();

  metrics->OnFinished(FinishReason::kStop, 0.2);
  metrics->OnFinished(FinishReason::kStop, 0.3);
  metrics->OnFinished(FinishReason::kCancelled, 0.1);

  const std::string text = metrics->Scrape();
  EXPECT_TRUE(HasLine(text, "comet_requests_total{reason=\"stop\"} 2")) << text;
  EXPECT_TRUE(HasLine(text, "comet_requests_total{reason=\"cancelled\"} 1"));
  EXPECT_TRUE(HasLine(text, "comet_requests_total{reason=\"error\"} 0"));
  EXPECT_TRUE(HasLine(text, "comet_e2e_request_latency_seconds_count 3"));
}

TEST(Metrics, ObservesEveryHistogram) {
  const auto metrics = Metrics::Create();

  metrics->OnStarted(0.5);
  metrics->OnFirstToken(0.5);
  metrics->OnNextToken(0.004);
  metrics->OnStep({.step_seconds = 0.5, .host_seconds = 0.0001});

  const std::string text = metrics->Scrape();
  for (const char* name : {"comet_request_queue_time_seconds", "comet_time_to_first_token_seconds",
                           "comet_inter_token_latency_seconds", "comet_step_duration_seconds",
                           "comet_step_host_seconds"}) {
    EXPECT_TRUE(HasLine(text, std::string(name) + "_count 1")) << name;
  }
  EXPECT_TRUE(HasLine(text, "comet_inter_token_latency_seconds_bucket{le=\"0.005\"} 1"));
  EXPECT_TRUE(HasLine(text, "comet_inter_token_latency_seconds_bucket{le=\"0.0025\"} 0"));
}

TEST(Metrics, ShowsRejectionsAndBuild) {
  const auto metrics = Metrics::Create();
  Admission admission(1);
  metrics->Attach(nullptr, &admission);

  admission.BeginDrain();
  EXPECT_FALSE(admission.Admit().ok());

  const std::string text = metrics->Scrape();
  EXPECT_TRUE(HasLine(text, "comet_admission_rejections_total{reason=\"draining\"} 1")) << text;
  EXPECT_NE(text.find("\ncomet_build_info{version=\""), std::string::npos);
}

}  // namespace
}  // namespace comet
