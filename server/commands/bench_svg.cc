#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/str_cat.h"
#include "server/commands/bench_report.h"
#include "server/commands/format_text.h"
#include "server/commands/svg_text.h"

namespace comet {
namespace {

constexpr double kWidth = 1000;
constexpr double kPanelHeight = 560;
constexpr double kLeft = 64;
constexpr double kRight = 250;  // The legend.
constexpr double kTop = 56;
constexpr double kBottom = 56;
constexpr double kLegendLine = 15;

// Twelve hues that stay apart on white; beyond them lines are dashed.
constexpr const char* kColors[] = {"#1f77b4", "#ff7f0e", "#2ca02c", "#d62728",
                                   "#9467bd", "#8c564b", "#e377c2", "#7f7f7f",
                                   "#bcbd22", "#17becf", "#3b528b", "#c49a00"};
constexpr size_t kNumColors = std::size(kColors);

struct Point {
  int num_tokens;
  double speedup;
};
struct Line {
  std::string name;
  std::vector<Point> points;
};

// Equal shapes of several models are one line.
std::vector<Line> LinesOf(const BenchGroup& group, std::string_view kernel) {
  std::vector<Line> lines;
  std::set<std::pair<int, int>> seen;
  for (const BenchRow& row : group.rows) {
    if (!seen.insert({row.shape.num_outputs, row.shape.num_inputs}).second) continue;
    Line line{.name = StrCat(row.shape.num_outputs, " x ", row.shape.num_inputs), .points = {}};
    if (!row.shape.model.empty()) line.name += StrCat("  ", row.shape.model, " ", row.shape.layer);
    for (const OpMeasurement& m : row.measurements) {
      const std::optional<double> speedup = SpeedupOver(m, kernel);
      if (speedup.has_value()) line.points.push_back({m.num_tokens, *speedup});
    }
    if (!line.points.empty()) lines.push_back(std::move(line));
  }
  return lines;
}

Line GeomeanLine(const BenchGroup& group, std::string_view kernel) {
  Line line{.name = StrCat("geometric mean of ", group.rows.size(), " rows"), .points = {}};
  for (const int num_tokens : group.num_tokens) {
    const std::optional<double> speedup = GeomeanSpeedup(group, kernel, num_tokens);
    if (speedup.has_value()) line.points.push_back({num_tokens, *speedup});
  }
  return line;
}

// Tokens on a logarithmic axis, speed-ups on a linear one from 0.
class Panel {
 public:
  Panel(const BenchGroup& group, double top, const std::vector<Line>& lines) : top_(top) {
    const auto [low, high] = std::minmax_element(group.num_tokens.begin(), group.num_tokens.end());
    log_low_ = std::log2(*low);
    log_high_ = std::max(std::log2(*high), log_low_ + 1);
    double largest = 1;
    for (const Line& line : lines) {
      for (const Point& point : line.points) largest = std::max(largest, point.speedup);
    }
    speedup_max_ = std::ceil(largest * 2 + 0.2) / 2;
  }

  double speedup_max() const { return speedup_max_; }
  double X(int num_tokens) const {
    const double share = (std::log2(num_tokens) - log_low_) / (log_high_ - log_low_);
    return kLeft + share * (kWidth - kLeft - kRight);
  }
  double Y(double speedup) const {
    return top_ + kPanelHeight - kBottom - speedup / speedup_max_ * (kPanelHeight - kTop - kBottom);
  }

  std::string Draw(const Line& line, const std::string& style) const {
    std::string points;
    for (const Point& point : line.points) {
      points += FormatText("%.1f,%.1f ", X(point.num_tokens), Y(point.speedup));
    }
    return StrCat("<polyline fill=\"none\" ", style, " points=\"", points, "\"/>\n");
  }

 private:
  double top_;
  double log_low_ = 0;
  double log_high_ = 1;
  double speedup_max_ = 1;
};

std::string Axes(const Panel& panel, const BenchGroup& group, double top, std::string_view title) {
  std::string svg = FormatText("<text x=\"%.0f\" y=\"%.0f\" font-size=\"16\">%s</text>\n", kLeft,
                               top + 28, EscapeSvg(title).c_str());
  for (double speedup = 0; speedup <= panel.speedup_max() + 1e-9; speedup += 0.5) {
    const bool is_one = std::fabs(speedup - 1) < 1e-9;
    const double y = panel.Y(speedup);
    svg += FormatText(
        "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n"
        "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\" fill=\"#444\">%.1f&#215;</text>\n",
        kLeft, y, kWidth - kRight, y, is_one ? "#888" : "#e4e4e4", kLeft - 8, y + 4, speedup);
  }
  for (const int num_tokens : group.num_tokens) {
    const double x = panel.X(num_tokens);
    svg += FormatText(
        "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#f0f0f0\"/>\n"
        "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" fill=\"#444\">%d</text>\n",
        x, panel.Y(0), x, panel.Y(panel.speedup_max()), x, panel.Y(0) + 18, num_tokens);
  }
  svg += FormatText(
      "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" fill=\"#444\">tokens (M)</text>\n",
      (kLeft + kWidth - kRight) / 2, panel.Y(0) + 38);
  return svg;
}

std::string DrawPanel(const BenchGroup& group, std::string_view kernel, double top) {
  const std::vector<Line> lines = LinesOf(group, kernel);
  const Panel panel(group, top, lines);
  std::string svg =
      Axes(panel, group, top, StrCat(group.name, ": speed-up over ", kernel, " by tokens"));
  double legend_y = top + kTop;
  const auto legend = [&](const std::string& name, const std::string& style) {
    svg += FormatText("<line x1=\"%.0f\" y1=\"%.1f\" x2=\"%.0f\" y2=\"%.1f\" %s/>\n",
                      kWidth - kRight + 16, legend_y - 4, kWidth - kRight + 40, legend_y - 4,
                      style.c_str());
    svg += FormatText("<text x=\"%.0f\" y=\"%.1f\" font-size=\"10\">%s</text>\n",
                      kWidth - kRight + 46, legend_y, EscapeSvg(name).c_str());
    legend_y += kLegendLine;
  };
  for (size_t i = 0; i < lines.size(); ++i) {
    const char* dashes[] = {"", " stroke-dasharray=\"6 3\"", " stroke-dasharray=\"2 2\""};
    const std::string style =
        StrCat("stroke=\"", kColors[i % kNumColors], "\" stroke-width=\"1.4\"",
               dashes[i / kNumColors % std::size(dashes)]);
    svg += panel.Draw(lines[i], style);
    legend(lines[i].name, style);
  }
  const Line geomean = GeomeanLine(group, kernel);
  const std::string style = "stroke=\"#000\" stroke-width=\"3\"";
  svg += panel.Draw(geomean, style);
  legend(geomean.name, style);
  for (const Point& point : geomean.points) {
    svg += FormatText(
        "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" font-weight=\"bold\" stroke=\"#fff\" "
        "stroke-width=\"3\" paint-order=\"stroke\">%.2f</text>\n",
        panel.X(point.num_tokens), panel.Y(point.speedup) - 10, point.speedup);
  }
  return svg;
}

}  // namespace

std::string BenchSvg(const std::vector<BenchGroup>& groups, std::string_view kernel) {
  std::string panels;
  double top = 0;
  for (const BenchGroup& group : groups) {
    if (LinesOf(group, kernel).empty()) continue;
    panels += DrawPanel(group, kernel, top);
    top += kPanelHeight;
  }
  if (panels.empty()) return "";
  return StrCat(
      FormatText("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                 "font-family=\"sans-serif\" font-size=\"12\">\n"
                 "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                 kWidth, top),
      panels, "</svg>\n");
}

}  // namespace comet
