#include "server/commands/accuracy_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string_view>

#include "engine/loader/output_file.h"
#include "kernels/base/str_cat.h"
#include "server/commands/svg_text.h"

namespace comet {
namespace {

constexpr double kWidth = 960.0;
constexpr double kPanelHeight = 260.0;
constexpr double kPanelTop = 96.0;  // Of the first one; title and legend are above it.
constexpr double kPanelGap = 72.0;
constexpr double kLeft = 64.0;
constexpr double kRight = 24.0;
constexpr double kBottom = 56.0;
constexpr int kLayerTicksMax = 16;
// Four hues that stay apart for colour-blind readers; markers differ too.
constexpr std::array<std::string_view, 4> kColours = {"#0072b2", "#e69f00", "#009e73", "#cc79a7"};

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", std::round(value * 100.0) / 100.0);
  return text;
}

// Draws shapes at pixel positions.
class Canvas {
 public:
  explicit Canvas(double height) {
    svg_ = StrCat("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", Number(kWidth), " ",
                  Number(height), "\" width=\"", Number(kWidth), "\" height=\"", Number(height),
                  "\" font-family=\"sans-serif\" font-size=\"13\">\n",
                  "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n");
  }

  void Text(double x, double y, std::string_view anchor, std::string_view text, int size = 13) {
    svg_ += StrCat("<text x=\"", Number(x), "\" y=\"", Number(y), "\" text-anchor=\"", anchor,
                   "\" font-size=\"", size, "\" fill=\"#222\">", EscapeSvg(text), "</text>\n");
  }
  void Line(double x0, double y0, double x1, double y1, std::string_view colour, double width) {
    svg_ += StrCat("<line x1=\"", Number(x0), "\" y1=\"", Number(y0), "\" x2=\"", Number(x1),
                   "\" y2=\"", Number(y1), "\" stroke=\"", colour, "\" stroke-width=\"",
                   Number(width), "\"/>\n");
  }
  void Path(const std::string& points, std::string_view colour) {
    svg_ += StrCat("<path d=\"", points, "\" fill=\"none\" stroke=\"", colour,
                   "\" stroke-width=\"2\"/>\n");
  }
  // Circle, square, triangle or diamond.
  void Marker(double x, double y, size_t shape, std::string_view colour) {
    const std::string fill = StrCat("\" fill=\"", colour, "\"/>\n");
    if (shape == 0) {
      svg_ += StrCat("<circle cx=\"", Number(x), "\" cy=\"", Number(y), "\" r=\"3.5", fill);
    } else if (shape == 1) {
      svg_ += StrCat("<rect x=\"", Number(x - 3), "\" y=\"", Number(y - 3),
                     "\" width=\"6\" height=\"6", fill);
    } else if (shape == 2) {
      svg_ += StrCat("<path d=\"M", Number(x), " ", Number(y - 4), " l4 7 h-8 z", fill);
    } else {
      svg_ += StrCat("<path d=\"M", Number(x), " ", Number(y - 4.5),
                     " l4.5 4.5 l-4.5 4.5 l-4.5 -4.5 z", fill);
    }
  }
  void Cross(double x, double y) {
    svg_ += StrCat("<path d=\"M", Number(x - 4), " ", Number(y - 4),
                   " l8 8 m0 -8 l-8 8\" stroke=", "\"#d00000\" stroke-width=\"2.5\"/>\n");
  }

  std::string Finish() { return svg_ + "</svg>\n"; }

 private:
  std::string svg_;
};

// The smallest of 1, 2 and 5 times a power of ten that cuts `range` into at most six steps.
double NiceStep(double range) {
  double step = std::pow(10.0, std::floor(std::log10(range)) - 1.0);
  for (const double factor : {2.0, 2.5, 2.0, 2.0, 2.5, 2.0}) {
    if (range / step <= 6.0) break;
    step *= factor;
  }
  return step;
}

double LargestFinite(const AccuracyFile& accuracy, double LinearErrors::*error) {
  double largest = 0.0;
  for (const auto& layer : accuracy.layers) {
    for (const LinearErrors& linear : layer) {
      if (std::isfinite(linear.*error)) largest = std::max(largest, linear.*error);
    }
  }
  return largest > 0.0 ? largest : 1.0;
}

// One set of axes with the four lines.
class Panel {
 public:
  Panel(Canvas& canvas, const AccuracyFile& accuracy, double LinearErrors::*error, double top)
      : canvas_(canvas),
        accuracy_(accuracy),
        error_(error),
        top_(top),
        step_(NiceStep(LargestFinite(accuracy, error))),
        error_max_(std::ceil(LargestFinite(accuracy, error) / step_) * step_) {}

  void Draw(std::string_view title) {
    DrawAxes(title);
    for (size_t linear = 0; linear < kAccuracyLinears.size(); ++linear) DrawLine(linear);
  }

 private:
  double X(size_t layer_idx) const {
    const double last = std::max<double>(1.0, static_cast<double>(accuracy_.layers.size()) - 1.0);
    return kLeft + 12.0 + static_cast<double>(layer_idx) / last * (kWidth - kLeft - kRight - 24.0);
  }
  double Y(double error) const { return top_ + kPanelHeight * (1.0 - error / error_max_); }

  void DrawAxes(std::string_view title) {
    canvas_.Text(kLeft, top_ - 12.0, "start", title, 14);
    const int num_steps = static_cast<int>(std::lround(error_max_ / step_));
    for (int i = 0; i <= num_steps; ++i) {
      const double error = i * step_;
      char label[32];
      std::snprintf(label, sizeof(label), "%.4g", error);
      canvas_.Line(kLeft, Y(error), kWidth - kRight, Y(error), i == 0 ? "#444" : "#ddd", 1.0);
      canvas_.Text(kLeft - 8.0, Y(error) + 4.5, "end", label);
    }
    const size_t num_layers = accuracy_.layers.size();
    const size_t stride = (num_layers + kLayerTicksMax - 1) / kLayerTicksMax;
    for (size_t i = 0; i < num_layers; i += stride) {
      canvas_.Text(X(i), top_ + kPanelHeight + 18.0, "middle", StrCat(i));
    }
    canvas_.Text((kLeft + kWidth - kRight) / 2.0, top_ + kPanelHeight + 38.0, "middle", "layer");
  }

  void DrawLine(size_t linear) {
    std::string path;
    bool is_broken = true;  // The next point starts a new run.
    for (size_t i = 0; i < accuracy_.layers.size(); ++i) {
      const double error = accuracy_.layers[i][linear].*error_;
      if (!std::isfinite(error)) {
        is_broken = true;
        continue;
      }
      path += StrCat(is_broken ? "M" : "L", Number(X(i)), " ", Number(Y(error)), " ");
      is_broken = false;
    }
    if (!path.empty()) canvas_.Path(path, kColours[linear]);
    for (size_t i = 0; i < accuracy_.layers.size(); ++i) {
      const double error = accuracy_.layers[i][linear].*error_;
      std::isfinite(error) ? canvas_.Marker(X(i), Y(error), linear, kColours[linear])
                           : canvas_.Cross(X(i), top_);
    }
  }

  Canvas& canvas_;
  const AccuracyFile& accuracy_;
  double LinearErrors::*error_;
  double top_;
  double step_;
  double error_max_;
};

void DrawLegend(Canvas& canvas) {
  double x = kLeft;
  for (size_t i = 0; i < kAccuracyLinears.size(); ++i) {
    canvas.Line(x, 56.0, x + 26.0, 56.0, kColours[i], 2.0);
    canvas.Marker(x + 13.0, 56.0, i, kColours[i]);
    canvas.Text(x + 34.0, 60.5, "start", kAccuracyLinears[i]);
    x += 110.0;
  }
}

}  // namespace

std::string AccuracyChart(const AccuracyFile& accuracy, const std::string& title) {
  const double second_top = kPanelTop + kPanelHeight + kPanelGap;
  Canvas canvas(second_top + kPanelHeight + kBottom);
  canvas.Text(kLeft, 30.0, "start", StrCat("Relative output error by layer: ", title), 17);
  DrawLegend(canvas);
  Panel(canvas, accuracy, &LinearErrors::output_8, kPanelTop).Draw("8-bit activations");
  Panel(canvas, accuracy, &LinearErrors::output_mixed, second_top)
      .Draw("the checkpoint's INT4/INT8 activation mix");
  return canvas.Finish();
}

Status WriteAccuracyChart(const std::string& folder, const std::string& file) {
  COMET_ASSIGN_OR_RETURN(const AccuracyFile accuracy, ReadAccuracyFile(folder));
  const std::filesystem::path path(folder);
  const std::string title =
      (path.has_filename() ? path.filename() : path.parent_path().filename()).string();
  return WriteTextFile(file, AccuracyChart(accuracy, title));
}

}  // namespace comet
