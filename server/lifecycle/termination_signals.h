#pragma once

#include <chrono>

namespace comet {

// SIGTERM and SIGINT as events. Built before any other thread, so that every thread has them
// blocked and only this object sees them. One a process.
class TerminationSignals {
 public:
  TerminationSignals();
  TerminationSignals(const TerminationSignals&) = delete;
  TerminationSignals& operator=(const TerminationSignals&) = delete;

  // Whether one came within `timeout`. One thread at a time.
  bool WaitFor(std::chrono::milliseconds timeout);
  // From now on a signal ends the process at once, with exit code 1.
  void ExitOnNext();
};

}  // namespace comet
