#include "server/commands/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr std::chrono::seconds kLineInterval{10};
constexpr std::chrono::milliseconds kRedrawInterval{100};
constexpr int kBarCells = 24;
constexpr int kColumnsDefault = 80;

// "0:42", "12:05", "3:07:30".
std::string Clock(double seconds) {
  const long total = std::lround(std::max(0.0, seconds));
  char text[32];
  if (total < 3600) {
    std::snprintf(text, sizeof(text), "%ld:%02ld", total / 60, total % 60);
  } else {
    std::snprintf(text, sizeof(text), "%ld:%02ld:%02ld", total / 3600, total / 60 % 60, total % 60);
  }
  return text;
}

std::string Times(const ProgressState& state) {
  std::string text = StrCat(state.done, "/", state.all, "  ", Clock(state.elapsed_seconds));
  if (state.done > 0 && state.done < state.all) {
    const double left = state.elapsed_seconds / state.done * (state.all - state.done);
    text += StrCat(", ", Clock(left), " left");
  }
  return text;
}

int TerminalColumns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kColumnsDefault;
  return size.ws_col;
}

}  // namespace

std::string ProgressBar(const ProgressState& state, int columns) {
  const double share = state.all > 0 ? static_cast<double>(state.done) / state.all : 0.0;
  const int num_full = std::clamp(static_cast<int>(share * kBarCells), 0, kBarCells);
  const std::string bar = std::string(static_cast<size_t>(num_full), '#') +
                          std::string(static_cast<size_t>(kBarCells - num_full), '.');
  // What is cut off on a narrow terminal comes last.
  std::string line = StrCat("[", bar, "] ", Times(state), "  ", state.title, ": ", state.detail);
  // A line that wraps could not be redrawn in place.
  line.resize(std::min(line.size(), static_cast<size_t>(std::max(columns - 1, 1))));
  return line;
}

std::string ProgressText(const ProgressState& state) {
  return StrCat(state.title, ": ", Times(state), "  ", state.detail);
}

Progress::Progress(std::string_view title)
    : title_(title),
      is_terminal_(isatty(STDERR_FILENO) == 1),
      started_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  if (is_drawn_) std::fputc('\n', stderr);
}

void Progress::Update(int done, int all, std::string_view detail) {
  const auto now = std::chrono::steady_clock::now();
  const auto interval = is_terminal_ ? std::chrono::milliseconds(kRedrawInterval)
                                     : std::chrono::milliseconds(kLineInterval);
  if (done < all && now - printed_ < interval) return;
  printed_ = now;
  const ProgressState state{
      .title = title_,
      .done = done,
      .all = all,
      .elapsed_seconds = std::chrono::duration<double>(now - started_).count(),
      .detail = detail};
  if (is_terminal_) {
    std::fprintf(stderr, "\r\033[K%s", ProgressBar(state, TerminalColumns()).c_str());
  } else {
    std::fprintf(stderr, "%s\n", ProgressText(state).c_str());
  }
  std::fflush(stderr);
  is_drawn_ = is_terminal_;
}

}  // namespace comet
