#include "server/lifecycle/termination_signals.h"

#include <csignal>
#include <ctime>
#include <thread>

#include <unistd.h>

namespace comet {
namespace {

sigset_t TerminationSet() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

TerminationSignals::TerminationSignals() {
  const sigset_t set = TerminationSet();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // Writing to a closed socket is an error of that write, not of the process.
  std::signal(SIGPIPE, SIG_IGN);
}

bool TerminationSignals::WaitFor(std::chrono::milliseconds timeout) {
  const sigset_t set = TerminationSet();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  timespec limit{};
  limit.tv_sec = seconds.count();
  limit.tv_nsec = std::chrono::nanoseconds(timeout - seconds).count();
  return sigtimedwait(&set, nullptr, &limit) > 0;
}

void TerminationSignals::ExitOnNext() {
  // Detached: it waits until the process ends.
  std::thread([] {
    const sigset_t set = TerminationSet();
    int signal_number = 0;
    sigwait(&set, &signal_number);
    _exit(1);
  }).detach();
}

}  // namespace comet
