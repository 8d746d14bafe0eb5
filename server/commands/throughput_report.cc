#include "server/commands/throughput_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/base/str_cat.h"
#include "server/commands/format_text.h"
#include "server/commands/svg_text.h"

namespace comet {
namespace {

using nlohmann::ordered_json;

double OrZero(double work, double rate) { return rate > 0 ? work / rate * 1e6 : 0.0; }
double MemoryUs(const OpClassTime& time, const DeviceRates& rates) {
  return OrZero(time.num_bytes, rates.bytes_per_second);
}
double ComputeUs(const OpClassTime& time, const DeviceRates& rates) {
  return OrZero(time.num_int8_ops, rates.int8_ops_per_second) +
         OrZero(time.num_f16_ops, rates.f16_ops_per_second);
}
double Percent(double part, double whole) { return whole > 0 ? 100.0 * part / whole : 0.0; }
double Gibibytes(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

std::string ProfileText(const StepProfile& profile, const DeviceRates& rates) {
  std::string text = FormatText(
      "\n%s step, op by op: %d sequences, %d tokens, context %d: %.0f us, issued in %.0f us\n"
      "%-22s %6s %10s %7s %9s %9s %7s\n",
      profile.name.c_str(), profile.num_sequences, profile.num_tokens, profile.context_length,
      profile.step_us, profile.issue_us, "op", "calls", "us", "share", "memory", "compute",
      "bound");
  for (const OpClassTime& time : profile.classes) {
    text += FormatText(
        "%-22s %6d %10.1f %6.1f%% %8.1f%% %8.1f%% %6.1f%%\n", time.name.c_str(), time.num_calls,
        time.us, Percent(time.us, profile.step_us), Percent(MemoryUs(time, rates), time.us),
        Percent(ComputeUs(time, rates), time.us), Percent(BoundUs(time, rates), time.us));
  }
  return text;
}

ordered_json RateJson(const TokenRate& rate) {
  return {{"output_tokens_per_second", rate.tokens_per_second},
          {"seconds", rate.seconds},
          {"num_sequences", rate.num_sequences},
          {"context_length", rate.context_length}};
}

ordered_json ProfileJson(const StepProfile& profile, const DeviceRates& rates) {
  ordered_json classes = ordered_json::array();
  for (const OpClassTime& time : profile.classes) {
    classes.push_back({{"op", time.name},
                       {"num_calls", time.num_calls},
                       {"us", time.us},
                       {"num_bytes", time.num_bytes},
                       {"num_int8_ops", time.num_int8_ops},
                       {"num_f16_ops", time.num_f16_ops},
                       {"memory_bound_us", MemoryUs(time, rates)},
                       {"compute_bound_us", ComputeUs(time, rates)}});
  }
  return {{"name", profile.name},
          {"num_sequences", profile.num_sequences},
          {"num_tokens", profile.num_tokens},
          {"context_length", profile.context_length},
          {"step_us", profile.step_us},
          {"issue_us", profile.issue_us},
          {"classes", std::move(classes)}};
}

constexpr double kSvgWidth = 900;
constexpr double kSvgNames = 190;
constexpr double kSvgBars = 480;
constexpr double kSvgLine = 20;

// Bars of the classes' times; the dark part is what their bounds take.
std::string ProfilePanel(const StepProfile& profile, const DeviceRates& rates, double top) {
  double us_max = 1;
  for (const OpClassTime& time : profile.classes) us_max = std::max(us_max, time.us);
  std::string svg = FormatText(
      "<text x=\"10\" y=\"%.0f\" font-size=\"15\">%s step: %d sequences, %d tokens, context %d, "
      "%.0f us op by op</text>\n",
      top + 24, EscapeSvg(profile.name).c_str(), profile.num_sequences, profile.num_tokens,
      profile.context_length, profile.step_us);
  double y = top + 40;
  for (const OpClassTime& time : profile.classes) {
    const double bound_us = std::min(BoundUs(time, rates), time.us);
    svg += FormatText(
        "<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n"
        "<rect x=\"%.0f\" y=\"%.1f\" width=\"%.1f\" height=\"14\" fill=\"#9ecae1\"/>\n"
        "<rect x=\"%.0f\" y=\"%.1f\" width=\"%.1f\" height=\"14\" fill=\"#08519c\"/>\n"
        "<text x=\"%.1f\" y=\"%.1f\">%.0f us, %.1f %%, bound %.0f %%</text>\n",
        kSvgNames, y + 12, EscapeSvg(time.name).c_str(), kSvgNames + 8, y,
        time.us / us_max * kSvgBars, kSvgNames + 8, y, bound_us / us_max * kSvgBars,
        kSvgNames + 14 + time.us / us_max * kSvgBars, y + 12, time.us,
        Percent(time.us, profile.step_us), Percent(bound_us, time.us));
    y += kSvgLine;
  }
  return svg;
}

double PanelHeight(const StepProfile& profile) {
  return 60 + kSvgLine * static_cast<double>(profile.classes.size());
}

}  // namespace

std::optional<double> OwnUsMax(const ThroughputResult& result) {
  double idle_issue_us = 0;
  for (const StepProfile& profile : result.profiles) {
    idle_issue_us = std::max(idle_issue_us, profile.issue_us);
  }
  // Without working ahead the host's part leaves issuing out.
  if (idle_issue_us == 0 || result.host_us < result.issue_us) return std::nullopt;
  return result.host_us - result.issue_us + std::min(result.issue_us, idle_issue_us);
}

double BoundUs(const OpClassTime& time, const DeviceRates& rates) {
  return std::max(MemoryUs(time, rates), ComputeUs(time, rates));
}

std::string ThroughputText(const ThroughputResult& result) {
  const MemoryPlan& memory = result.memory;
  std::string text = FormatText(
      "%s on %s\n%s\n"
      "%d requests of %d/%d tokens, at most %d running, %d tokens a step\n"
      "loaded in %.2f s, started in %.2f s\n",
      result.model.c_str(), result.device.c_str(), result.kernels.c_str(), result.num_requests,
      result.num_input_tokens, result.num_output_tokens, result.running_sequences_max,
      result.step_tokens_max, result.load_seconds, result.start_seconds);
  text += FormatText(
      "memory GiB: %.2f free, %.2f weights, %.2f activations, %.2f reserve, %.2f KV cache (%d "
      "pages); %.2f left once started\n\n",
      Gibibytes(memory.free_bytes), Gibibytes(memory.weights_bytes),
      Gibibytes(memory.activations_bytes), Gibibytes(memory.reserve_bytes),
      Gibibytes(memory.kv_cache_bytes()), memory.num_pages, Gibibytes(result.left_bytes));
  text +=
      FormatText("%swhole run: %.1f output tokens/s (%.2f s from first submission to last token)\n",
                 result.is_claim() ? "" : "  not the claim: ", result.output_tokens_per_second(),
                 result.run_seconds);
  if (!result.is_claim()) {
    text += FormatText("  (a claim takes %d requests or more)\n", result.num_claim_requests);
  }
  if (result.steady) {
    text += FormatText(
        "  not the claim: steady state, first end to last start: %.1f output tokens/s "
        "over %.2f s\n",
        result.steady->tokens_per_second, result.steady->seconds);
  }
  if (result.decode_only) {
    text += FormatText(
        "  not the claim: decode only, %.0f sequences, mean context %.0f: %.1f output tokens/s "
        "over "
        "%.2f s\n",
        result.decode_only->num_sequences, result.decode_only->context_length,
        result.decode_only->tokens_per_second, result.decode_only->seconds);
  }
  text += FormatText(
      "%lld steps of %.0f us at the mean, the host's part %.0f us (%.1f %%), issuing %.0f us (CPU "
      "time %.0f us); %lld preemptions\n",
      static_cast<long long>(result.num_steps), result.step_us, result.host_us,
      Percent(result.host_us, result.step_us), result.issue_us, result.issue_cpu_us,
      static_cast<long long>(result.num_preemptions));
  if (const std::optional<double> own_us = OwnUsMax(result)) {
    text +=
        FormatText("the host's own work is at most %.0f us (%.1f %%) of a step: the rest waits\n",
                   *own_us, Percent(*own_us, result.step_us));
  }
  if (result.rates.bytes_per_second > 0 && !result.profiles.empty()) {
    text += FormatText(
        "bounds: %.2f TB/s (copy, measured), %.0f INT8 TOPS, %.0f f16 TFLOPS (cuBLASLt's best)\n",
        result.rates.bytes_per_second * 1e-12, result.rates.int8_ops_per_second * 1e-12,
        result.rates.f16_ops_per_second * 1e-12);
  }
  for (const StepProfile& profile : result.profiles) text += ProfileText(profile, result.rates);
  return text;
}

ordered_json ThroughputJson(const ThroughputResult& result) {
  ordered_json json = {{"model", result.model},
                       {"device", result.device},
                       {"kernels", result.kernels},
                       {"num_input_tokens", result.num_input_tokens},
                       {"num_output_tokens", result.num_output_tokens},
                       {"num_requests", result.num_requests},
                       {"running_sequences_max", result.running_sequences_max},
                       {"step_tokens_max", result.step_tokens_max},
                       {"num_claim_requests", result.num_claim_requests},
                       {"run_seconds", result.run_seconds},
                       {"load_seconds", result.load_seconds},
                       {"start_seconds", result.start_seconds},
                       {"num_steps", result.num_steps},
                       {"step_us", result.step_us},
                       {"host_us", result.host_us},
                       {"issue_us", result.issue_us},
                       {"issue_cpu_us", result.issue_cpu_us},
                       {"own_us_max", OwnUsMax(result) ? ordered_json(*OwnUsMax(result)) : nullptr},
                       {"num_preemptions", result.num_preemptions}};
  json["memory"] = {{"free_bytes", result.memory.free_bytes},
                    {"weights_bytes", result.memory.weights_bytes},
                    {"activations_bytes", result.memory.activations_bytes},
                    {"reserve_bytes", result.memory.reserve_bytes},
                    {"kv_cache_bytes", result.memory.kv_cache_bytes()},
                    {"num_pages", result.memory.num_pages},
                    {"left_bytes", result.left_bytes}};
  ordered_json apart = ordered_json::object();
  (result.is_claim() ? json : apart)["output_tokens_per_second"] =
      result.output_tokens_per_second();
  if (result.steady) apart["steady_state"] = RateJson(*result.steady);
  if (result.decode_only) apart["decode_only"] = RateJson(*result.decode_only);
  json["not_the_claim"] = std::move(apart);
  json["rates"] = {{"bytes_per_second", result.rates.bytes_per_second},
                   {"int8_ops_per_second", result.rates.int8_ops_per_second},
                   {"f16_ops_per_second", result.rates.f16_ops_per_second}};
  json["profiles"] = ordered_json::array();
  for (const StepProfile& profile : result.profiles) {
    json["profiles"].push_back(ProfileJson(profile, result.rates));
  }
  return json;
}

std::string ThroughputSvg(const ThroughputResult& result) {
  std::string panels;
  double top = 40;
  for (const StepProfile& profile : result.profiles) {
    panels += ProfilePanel(profile, result.rates, top);
    top += PanelHeight(profile);
  }
  const std::string title =
      FormatText("%s, %d/%d, %d requests, %d running: %.0f output tokens/s, whole run%s",
                 result.model.c_str(), result.num_input_tokens, result.num_output_tokens,
                 result.num_requests, result.running_sequences_max,
                 result.output_tokens_per_second(), result.is_claim() ? "" : " (not the claim)");
  return StrCat(
      FormatText("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                 "font-family=\"sans-serif\" font-size=\"12\">\n"
                 "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                 kSvgWidth, top),
      "<text x=\"10\" y=\"26\" font-size=\"17\">", EscapeSvg(title), "</text>\n", panels,
      "</svg>\n");
}

}  // namespace comet
