#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "engine/chat_template/filters.h"
#include "engine/chat_template/operators.h"
#include "engine/chat_template/parameters.h"
#include "engine/chat_template/unicode_text.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

// Digits that a double can hold after the point.
constexpr int64_t kPrecisionMax = 300;

// Without the underscores that Python allows between digits, white space and a plus sign.
std::string PlainNumber(std::string_view text) {
  text = Strip(text, Ends::kBoth);
  if (text.starts_with('+')) text.remove_prefix(1);
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_between =
        i > 0 && i + 1 < text.size() && text[i - 1] != '_' && text[i + 1] != '_';
    if (text[i] != '_' || !is_between) plain.push_back(text[i]);
  }
  return plain;
}

std::optional<int64_t> ParseInteger(std::string_view literal, int base) {
  std::string text = PlainNumber(literal);
  const std::string_view prefix = base == 16 ? "0x" : (base == 8 ? "0o" : (base == 2 ? "0b" : ""));
  if (!prefix.empty() && ToLower(text).starts_with(prefix)) text.erase(0, prefix.size());
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> ParseReal(std::string_view literal) {
  const std::string text = PlainNumber(literal);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> Truncate(double value) {
  if (!(std::abs(value) < 9.2e18)) return std::nullopt;
  return static_cast<int64_t>(value);
}

Result<Value> ToInteger(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "int", {"default", "base"}));
  COMET_ASSIGN_OR_RETURN(const int64_t base, bound.Integer(1, 10));
  if (base < 2 || base > 36) return InvalidArgument("int(): base is not between 2 and 36");
  if (input.is(Kind::kUndefined)) return InvalidArgument(input.what());
  std::optional<int64_t> value;
  if (input.is(Kind::kString)) {
    COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(input.text().size())));
    value = ParseInteger(input.text(), static_cast<int>(base));
    if (!value) {
      const std::optional<double> real = ParseReal(input.text());
      if (real) value = Truncate(*real);
    }
  } else if (input.is_integral()) {
    value = input.as_integer();
  } else if (input.is(Kind::kFloat)) {
    value = Truncate(input.real());
  }
  if (value) return Value(*value);
  return bound.has(0) ? bound[0] : Value(int64_t{0});
}

Result<Value> ToReal(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound, Parameters::Bind(arguments, "float", {"default"}));
  if (input.is(Kind::kUndefined)) return InvalidArgument(input.what());
  if (input.is_number()) return Value(input.as_real());
  if (input.is(Kind::kString)) {
    COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(input.text().size())));
    if (const std::optional<double> value = ParseReal(input.text())) return Value(*value);
  }
  return bound.has(0) ? bound[0] : Value(0.0);
}

Result<Value> Absolute(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "abs", {}).status());
  if (input.is(Kind::kFloat)) return Value(std::abs(input.real()));
  if (input.is_integral()) {
    if (input.as_integer() >= 0) return Value(input.as_integer());
    return Arithmetic(sandbox, Operator::kSubtract, Value(int64_t{0}), input);
  }
  if (input.is(Kind::kUndefined)) return InvalidArgument(input.what());
  return InvalidArgument(StrCat("bad operand type for abs(): '", input.type_name(), "'"));
}

// Half to even on the decimal expansion, as Python's round(): the C library prints it exactly.
double RoundDecimal(double value, int64_t precision) {
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(value / scale) * scale;
  }
  std::array<char, 1024> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", static_cast<int>(precision), value);
  return std::strtod(buffer.data(), nullptr);
}

Result<Value> Round(Sandbox&, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "round", {"precision", "method"}));
  COMET_ASSIGN_OR_RETURN(int64_t precision, bound.Integer(0, 0));
  COMET_ASSIGN_OR_RETURN(const std::string method, bound.String(1, "common"));
  if (input.is(Kind::kUndefined)) return InvalidArgument(input.what());
  if (!input.is_number()) {
    return InvalidArgument(StrCat("round(): the value is a ", input.type_name()));
  }
  precision = std::clamp(precision, -kPrecisionMax, kPrecisionMax);
  const double value = input.as_real();
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return Value(std::ceil(value * scale) / scale);
  if (method == "floor") return Value(std::floor(value * scale) / scale);
  if (method != "common") return InvalidArgument("method must be common, ceil or floor");
  if (!input.is_integral()) return Value(RoundDecimal(value, precision));
  if (precision >= 0) return Value(input.as_integer());
  const std::optional<int64_t> rounded = Truncate(RoundDecimal(value, precision));
  if (!rounded) return InvalidArgument("round(): the result does not fit a 64-bit integer");
  return Value(*rounded);
}

Result<Value> Default(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "default", {"default_value", "boolean"}));
  const bool is_missing =
      input.is(Kind::kUndefined) || (bound.Boolean(1, false) && !input.is_true());
  if (!is_missing) return input;
  return bound.has(0) ? Result<Value>(bound[0]) : sandbox.NewString("");
}

constexpr NamedFilter kFilters[] = {
    {"abs", Absolute}, {"d", Default},     {"default", Default},
    {"float", ToReal}, {"int", ToInteger}, {"round", Round},
};

}  // namespace

Filter FindNumberFilter(std::string_view name) {
  const auto* it = std::find_if(std::begin(kFilters), std::end(kFilters),
                                [&](const NamedFilter& named) { return named.name == name; });
  return it == std::end(kFilters) ? nullptr : it->filter;
}

}  // namespace comet::jinja
