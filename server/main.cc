#include <iostream>

#include "server/command_line.h"

int main(int argc, char** argv) {
  const comet::Command command = comet::ParseCommandLine(argc, argv);
  if (!command.run) return command.exit_code;
  const comet::Status status = command.run();
  if (status.ok()) return 0;
  std::cerr << "comet: " << status.message() << "\n";
  // A value that only the command itself can judge is wrong usage too.
  const bool is_usage = status.code() == comet::StatusCode::kInvalidArgument;
  return is_usage ? comet::kExitUsage : comet::kExitFailed;
}
