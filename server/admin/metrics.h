#pragma once

#include <functional>
#include <memory>
#include <string>

#include "engine/engine.h"
#include "server/admission/admission.h"

namespace comet {

// Every metric of the daemon. Histograms and request counts come from the engine's observer calls;
// all others are read from one EngineStats snapshot when asked, so one scrape is consistent.
// Thread-safe.
class Metrics : public EngineObserver {
 public:
  static std::unique_ptr<Metrics> Create();

  // What a scrape reads; both outlive their use. Without them, before start-up has finished, a
  // scrape shows only what needs neither.
  virtual void Attach(const Engine* engine, const Admission* admission) = 0;

  // Prometheus' text format, version 0.0.4.
  virtual std::string Scrape() const = 0;
};

inline constexpr const char* kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace comet
