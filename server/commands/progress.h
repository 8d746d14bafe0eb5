#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace comet {

// Where a long command stands.
struct ProgressState {
  std::string_view title;
  int done = 0;
  int all = 0;
  double elapsed_seconds = 0.0;
  std::string_view detail;  // What was done last.
};

// One line below `columns` characters: a bar, counts, time gone, an estimate of the time left that
// takes every step for as long as those before, then title and detail as far as they fit.
std::string ProgressBar(const ProgressState& state, int columns);
// The same without the bar, for a log.
std::string ProgressText(const ProgressState& state);

// Progress of a long command on stderr: a bar redrawn in place on a terminal, a line at most every
// ten seconds elsewhere. Confined to one thread.
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
