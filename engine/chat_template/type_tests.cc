#include "engine/chat_template/type_tests.h"

#include <algorithm>

#include "engine/chat_template/comparisons.h"
#include "engine/chat_template/filters.h"
#include "engine/chat_template/operators.h"
#include "engine/chat_template/parameters.h"
#include "engine/chat_template/python_text.h"
#include "engine/chat_template/unicode_text.h"

namespace comet::jinja {
namespace {

// A test of the value alone.
template <bool (*kPredicate)(const Value&)>
Result<bool> Is(Sandbox&, const Value& input, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "the test", {}).status());
  return kPredicate(input);
}

// A test that compares the value with its argument.
template <Operator kOperator>
Result<bool> Compares(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "the test", {"other"}, 1));
  return Compare(sandbox, kOperator, input, bound[0]);
}

bool IsDefined(const Value& value) { return !value.is(Kind::kUndefined); }
bool IsUndefined(const Value& value) { return value.is(Kind::kUndefined); }
bool IsNone(const Value& value) { return value.is(Kind::kNone); }
bool IsBoolean(const Value& value) { return value.is(Kind::kBool); }
bool IsTrue(const Value& value) { return value.is(Kind::kBool) && value.boolean(); }
bool IsFalse(const Value& value) { return value.is(Kind::kBool) && !value.boolean(); }
bool IsInteger(const Value& value) { return value.is(Kind::kInt); }
bool IsFloat(const Value& value) { return value.is(Kind::kFloat); }
bool IsNumber(const Value& value) { return value.is_number(); }
bool IsString(const Value& value) { return value.is(Kind::kString); }
bool IsMapping(const Value& value) { return value.is(Kind::kDict); }
bool IsCallable(const Value& value) { return value.is(Kind::kCallable); }
// Jinja counts what has a length and can be indexed, so dicts and what is undefined too.
bool IsSequence(const Value& value) {
  return value.is_sequence() || value.is(Kind::kDict) || value.is(Kind::kUndefined);
}
// Iterating over what is undefined gives nothing, so Python counts it.
bool IsIterable(const Value& value) {
  return value.is(Kind::kString) || value.is(Kind::kDict) || value.is(Kind::kUndefined) ||
         value.is(Kind::kList) || value.is(Kind::kLoop);
}

template <bool (*kPredicate)(std::string_view)>
Result<bool> HasCase(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "the test", {}).status());
  COMET_ASSIGN_OR_RETURN(const Value text, ToText(sandbox, input));
  COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(text.text().size())));
  return kPredicate(text.text());
}

Result<bool> Divides(Sandbox& sandbox, const Value& input, const Value& divisor, int64_t wanted) {
  COMET_ASSIGN_OR_RETURN(const Value rest, Arithmetic(sandbox, Operator::kModulo, input, divisor));
  return Equal(sandbox, rest, Value(wanted));
}

template <int64_t kRest>
Result<bool> IsParity(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "the test", {}).status());
  return Divides(sandbox, input, Value(int64_t{2}), kRest);
}

Result<bool> IsDivisibleBy(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "divisibleby", {"num"}, 1));
  return Divides(sandbox, input, bound[0], 0);
}

Result<bool> IsSameAs(Sandbox&, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "sameas", {"other"}, 1));
  return input.is_same(bound[0]);
}

Result<bool> IsFilterName(Sandbox&, const Value& input, const Arguments&) {
  return input.is(Kind::kString) && FindFilter(input.text()) != nullptr;
}

Result<bool> IsTestName(Sandbox&, const Value& input, const Arguments&) {
  return input.is(Kind::kString) && FindTypeTest(input.text()) != nullptr;
}

struct NamedTest {
  std::string_view name;
  TypeTest test;
};

constexpr NamedTest kTests[] = {
    {"!=", Compares<Operator::kNotEqual>},
    {"<", Compares<Operator::kLess>},
    {"<=", Compares<Operator::kLessOrEqual>},
    {"==", Compares<Operator::kEqual>},
    {">", Compares<Operator::kGreater>},
    {">=", Compares<Operator::kGreaterOrEqual>},
    {"boolean", Is<IsBoolean>},
    {"callable", Is<IsCallable>},
    {"defined", Is<IsDefined>},
    {"divisibleby", IsDivisibleBy},
    {"eq", Compares<Operator::kEqual>},
    {"equalto", Compares<Operator::kEqual>},
    {"even", IsParity<0>},
    {"false", Is<IsFalse>},
    {"filter", IsFilterName},
    {"float", Is<IsFloat>},
    {"ge", Compares<Operator::kGreaterOrEqual>},
    {"greaterthan", Compares<Operator::kGreater>},
    {"gt", Compares<Operator::kGreater>},
    {"in", Compares<Operator::kIn>},
    {"integer", Is<IsInteger>},
    {"iterable", Is<IsIterable>},
    {"le", Compares<Operator::kLessOrEqual>},
    {"lessthan", Compares<Operator::kLess>},
    {"lower", HasCase<IsLower>},
    {"lt", Compares<Operator::kLess>},
    {"mapping", Is<IsMapping>},
    {"ne", Compares<Operator::kNotEqual>},
    {"none", Is<IsNone>},
    {"number", Is<IsNumber>},
    {"odd", IsParity<1>},
    {"sameas", IsSameAs},
    {"sequence", Is<IsSequence>},
    {"string", Is<IsString>},
    {"test", IsTestName},
    {"true", Is<IsTrue>},
    {"undefined", Is<IsUndefined>},
    {"upper", HasCase<IsUpper>},
};

}  // namespace

TypeTest FindTypeTest(std::string_view name) {
  const auto* it = std::find_if(std::begin(kTests), std::end(kTests),
                                [&](const NamedTest& named) { return named.name == name; });
  return it == std::end(kTests) ? nullptr : it->test;
}

}  // namespace comet::jinja
