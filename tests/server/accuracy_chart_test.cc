#include "server/commands/accuracy_chart.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace comet {
namespace {

size_t CountOf(const std::string& text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

AccuracyFile ThreeLayers() {
  AccuracyFile accuracy;
  for (int i = 0; i < 3; ++i) {
    auto& layer = accuracy.layers.emplace_back();
    for (LinearErrors& linear : layer) {
      linear = {.weight = 0.1, .output_8 = 0.1 + 0.05 * i, .output_mixed = 0.2, .int4_share = 0.8};
    }
  }
  return accuracy;
}

TEST(AccuracyChart, HasALineForEachLinearInBothPanels) {
  const std::string svg = AccuracyChart(ThreeLayers(), "a <model> & more");

  EXPECT_TRUE(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
  EXPECT_EQ(CountOf(svg, "fill=\"none\""), 8u);
  EXPECT_NE(svg.find("a &lt;model&gt; &amp; more"), std::string::npos);
  for (const std::string_view name : kAccuracyLinears) {
    EXPECT_NE(svg.find(std::string(">") + std::string(name) + "<"), std::string::npos) << name;
  }
}

TEST(AccuracyChart, MarksWhatIsNoNumber) {
  AccuracyFile accuracy = ThreeLayers();
  EXPECT_EQ(CountOf(AccuracyChart(accuracy, ""), "#d00000"), 0u);

  accuracy.layers[1][2].output_8 = std::numeric_limits<double>::quiet_NaN();
  const std::string svg = AccuracyChart(accuracy, "");

  EXPECT_EQ(CountOf(svg, "#d00000"), 1u);
  EXPECT_EQ(CountOf(svg, "nan"), 0u);
}

TEST(AccuracyChart, DrawsOneLayerAndNone) {
  AccuracyFile accuracy = ThreeLayers();
  accuracy.layers.resize(1);
  EXPECT_EQ(CountOf(AccuracyChart(accuracy, ""), "nan"), 0u);
  EXPECT_EQ(CountOf(AccuracyChart({}, ""), "nan"), 0u);
}

TEST(AccuracyFile, ReadsNullAsNoNumberAndRefusesWhatIsMissing) {
  const std::string linear = R"({"weight_error": 0.1, "output_error_8": null,)"
                             R"("output_error_mixed": 0.3, "int4_share": 1})";
  const std::string layer = "{\"qkv\": " + linear + ", \"o\": " + linear +
                            ", \"gate_up\": " + linear + ", \"down\": " + linear + "}";

  const auto file = ParseAccuracyFile("a", "{\"layers\": [" + layer + "]}");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(std::isnan(file->layers[0][3].output_8));
  EXPECT_EQ(file->layers[0][3].output_mixed, 0.3);
  EXPECT_FALSE(file->held_out.has_value());

  for (const std::string& text :
       {std::string("{\"layers\": [{}]}"), std::string("{}"), std::string("[]"), std::string("{"),
        "{\"layers\": [" + layer + "], \"held_out\": {\"predictions\": 3}}"}) {
    EXPECT_EQ(ParseAccuracyFile("a", text).status().code(), StatusCode::kDataLoss) << text;
  }
}

}  // namespace
}  // namespace comet
