#include "server/commands/progress.h"

#include <unistd.h>

#include <cstdio>

namespace comet {
namespace {

constexpr std::chrono::seconds kLineInterval{10};

}  // namespace

Progress::Progress(std::string_view title)
    : title_(title),
      is_terminal_(isatty(STDERR_FILENO) == 1),
      started_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  if (is_drawn_) std::fputc('\n', stderr);
}

void Progress::Update(int done, int all, std::string_view detail) {
  const auto now = std::chrono::steady_clock::now();
  if (!is_terminal_ && done < all && now - printed_ < kLineInterval) return;
  printed_ = now;
  const double elapsed = std::chrono::duration<double>(now - started_).count();
  const double left = done > 0 ? elapsed / done * (all - done) : 0.0;
  std::fprintf(stderr, "%s%s: %d/%d  %.0f s, %.0f s left  %.*s%s", is_terminal_ ? "\r\033[K" : "",
               title_.c_str(), done, all, elapsed, left, static_cast<int>(detail.size()),
               detail.data(), is_terminal_ ? "" : "\n");
  std::fflush(stderr);
  is_drawn_ = is_terminal_;
}

}  // namespace comet
