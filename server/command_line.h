#pragma once

#include <functional>

#include "kernels/base/status.h"

namespace comet {

// What the command line asks for. Without `run` everything has been said (help, version, or what is
// wrong) and the process ends with `exit_code`.
struct Command {
  std::function<Status()> run;
  int exit_code = 0;
};

inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

Command ParseCommandLine(int argc, char** argv);

}  // namespace comet
