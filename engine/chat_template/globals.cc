#include "engine/chat_template/globals.h"

#include <ctime>

#include "engine/chat_template/parameters.h"
#include "engine/chat_template/python_text.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

constexpr int64_t kRangeItemsMax = 100'000;  // As Jinja's sandbox.
constexpr size_t kTimeFormatBytesMax = 256;
constexpr size_t kTimeBytesMax = 4096;

Result<Value> Range(Sandbox& sandbox, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "range", {"start", "stop", "step"}, 1));
  COMET_ASSIGN_OR_RETURN(const int64_t first, bound.Integer(0, 0));
  COMET_ASSIGN_OR_RETURN(const int64_t second, bound.Integer(1, 0));
  COMET_ASSIGN_OR_RETURN(const int64_t step, bound.Integer(2, 1));
  if (step == 0) return InvalidArgument("range() arg 3 must not be zero");
  const int64_t start = bound.has(1) ? first : 0;
  const int64_t stop = bound.has(1) ? second : first;
  std::vector<Value> items;
  int64_t item = start;
  while (step > 0 ? item < stop : item > stop) {
    if (static_cast<int64_t>(items.size()) == kRangeItemsMax) {
      return ResourceExhausted(StrCat("range() gives more than ", kRangeItemsMax, " items"));
    }
    items.emplace_back(item);
    if (__builtin_add_overflow(item, step, &item)) break;
  }
  COMET_RETURN_IF_ERROR(sandbox.Spend(static_cast<int64_t>(items.size()) / 16));
  return sandbox.NewList(std::move(items));
}

// The pairs of a dict argument, then the named arguments.
Result<std::vector<std::pair<Value, Value>>> PairsOf(Sandbox& sandbox, const Arguments& arguments,
                                                     std::string_view function) {
  std::vector<std::pair<Value, Value>> pairs;
  if (arguments.positional.size() > 1) {
    return InvalidArgument(StrCat(function, "() takes at most one positional argument"));
  }
  if (!arguments.positional.empty()) {
    if (!arguments.positional[0].is(Kind::kDict)) {
      return InvalidArgument(
          StrCat(function, "() takes a dict, not a ", arguments.positional[0].type_name()));
    }
    pairs = arguments.positional[0].dict()->items;
  }
  for (const auto& [name, value] : arguments.named) {
    COMET_ASSIGN_OR_RETURN(Value key, sandbox.NewString(std::string(name)));
    pairs.emplace_back(std::move(key), value);
  }
  return pairs;
}

Result<Value> MakeDict(Sandbox& sandbox, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(auto pairs, PairsOf(sandbox, arguments, "dict"));
  return sandbox.NewDict(std::move(pairs));
}

Result<Value> MakeNamespace(Sandbox& sandbox, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const auto pairs, PairsOf(sandbox, arguments, "namespace"));
  COMET_ASSIGN_OR_RETURN(Namespace * name_space, sandbox.NewNamespace());
  for (const auto& [key, value] : pairs) {
    if (key.is(Kind::kString)) name_space->Set(key.text(), value);
  }
  return Value(name_space);
}

Result<Value> RaiseException(Sandbox& sandbox, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "raise_exception", {"message"}, 1));
  COMET_ASSIGN_OR_RETURN(const Value message, ToText(sandbox, bound[0]));
  sandbox.MarkRaised();
  return InvalidArgument(message.text());
}

Result<Value> TimeNow(Sandbox& sandbox, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "strftime_now", {"format"}, 1));
  COMET_ASSIGN_OR_RETURN(const std::string format, bound.String(0, ""));
  if (format.size() > kTimeFormatBytesMax) {
    return ResourceExhausted("strftime_now(): the format is too long");
  }
  const std::time_t now = sandbox.Now();
  std::tm local{};
  localtime_r(&now, &local);
  std::string text(kTimeBytesMax, '\0');
  text.resize(std::strftime(text.data(), text.size(), format.c_str(), &local));
  return sandbox.NewString(std::move(text));
}

constexpr GlobalFunction kFunctions[] = {
    {"dict", MakeDict}, {"namespace", MakeNamespace}, {"raise_exception", RaiseException},
    {"range", Range},   {"strftime_now", TimeNow},
};

}  // namespace

std::span<const GlobalFunction> GlobalFunctions() { return kFunctions; }

}  // namespace comet::jinja
