#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace comet {

// Progress of a long command on stderr: one line redrawn in place on a terminal, a line at most
// every ten seconds elsewhere; with the time left. Confined to one thread.
class Progress {
 public:
  explicit Progress(std::string_view title);
  // Ends the redrawn line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Update(int done, int all, std::string_view detail);

 private:
  std::string title_;
  bool is_terminal_;
  bool is_drawn_ = false;
  std::chrono::steady_clock::time_point started_;
  std::chrono::steady_clock::time_point printed_{};
};

}  // namespace comet
