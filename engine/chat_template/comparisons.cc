#include "engine/chat_template/comparisons.h"

#include <algorithm>
#include <cmath>

#include "engine/chat_template/subscripts.h"
#include "engine/chat_template/unicode_text.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

int Sign(double difference) { return difference < 0 ? -1 : (difference > 0 ? 1 : 0); }

int OrderNumbers(const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) {
    const int64_t a = left.as_integer();
    const int64_t b = right.as_integer();
    return a < b ? -1 : (a > b ? 1 : 0);
  }
  const double a = left.as_real();
  const double b = right.as_real();
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) - std::isnan(b);
  return a < b ? -1 : (a > b ? 1 : 0);
}

Result<bool> EqualItems(Sandbox& sandbox, const std::vector<Value>& left,
                        const std::vector<Value>& right) {
  if (left.size() != right.size()) return false;
  for (size_t i = 0; i < left.size(); ++i) {
    COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, left[i], right[i]));
    if (!is_equal) return false;
  }
  return true;
}

Result<bool> EqualDicts(Sandbox& sandbox, const Dict& left, const Dict& right) {
  if (left.items.size() != right.items.size()) return false;
  for (const auto& [key, value] : left.items) {
    COMET_RETURN_IF_ERROR(sandbox.SpendKey(key));
    const Value* other = right.Find(key);
    if (!other) return false;
    COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, value, *other));
    if (!is_equal) return false;
  }
  return true;
}

}  // namespace

Result<bool> Compare(Sandbox& sandbox, Operator op, const Value& left, const Value& right) {
  switch (op) {
    case Operator::kEqual: return Equal(sandbox, left, right);
    case Operator::kNotEqual: {
      COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, left, right));
      return !is_equal;
    }
    case Operator::kIn: return Contains(sandbox, right, left);
    case Operator::kNotIn: {
      COMET_ASSIGN_OR_RETURN(const bool contains, Contains(sandbox, right, left));
      return !contains;
    }
    default: break;
  }
  COMET_ASSIGN_OR_RETURN(const int order, Order(sandbox, left, right, op));
  switch (op) {
    case Operator::kLess: return order < 0;
    case Operator::kLessOrEqual: return order <= 0;
    case Operator::kGreater: return order > 0;
    default: return order >= 0;
  }
}

Result<bool> Equal(Sandbox& sandbox, const Value& left, const Value& right) {
  const Sandbox::Nesting nesting(sandbox);
  COMET_RETURN_IF_ERROR(nesting.status());
  COMET_RETURN_IF_ERROR(sandbox.Spend(1));
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) return left.as_integer() == right.as_integer();
    return left.as_real() == right.as_real();
  }
  if (left.kind() != right.kind()) return false;
  if (left.is(Kind::kString)) {
    COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(left.text().size())));
    return left.text() == right.text();
  }
  if (left.is(Kind::kList) && left.list()->kind == right.list()->kind && left.is_sequence()) {
    return EqualItems(sandbox, left.list()->items, right.list()->items);
  }
  if (left.is(Kind::kDict)) return EqualDicts(sandbox, *left.dict(), *right.dict());
  return left.is_same(right);
}

Result<int> Order(Sandbox& sandbox, const Value& left, const Value& right, Operator op) {
  const Sandbox::Nesting nesting(sandbox);
  COMET_RETURN_IF_ERROR(nesting.status());
  COMET_RETURN_IF_ERROR(sandbox.Spend(1));
  if (left.is_number() && right.is_number()) return OrderNumbers(left, right);
  if (left.is(Kind::kString) && right.is(Kind::kString)) {
    COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(left.text().size())));
    // The order of UTF-8 bytes is that of code points.
    return Sign(left.text().compare(right.text()));
  }
  if (left.is(Kind::kList) && right.is(Kind::kList) && left.is_sequence() && right.is_sequence()) {
    const auto& a = left.list()->items;
    const auto& b = right.list()->items;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, a[i], b[i]));
      if (!is_equal) return Order(sandbox, a[i], b[i], op);
    }
    return a.size() < b.size() ? -1 : (a.size() > b.size() ? 1 : 0);
  }
  if (left.is(Kind::kUndefined)) return InvalidArgument(left.what());
  if (right.is(Kind::kUndefined)) return InvalidArgument(right.what());
  return InvalidArgument(StrCat("'", ToString(op), "' not supported between instances of '",
                                left.type_name(), "' and '", right.type_name(), "'"));
}

Result<bool> Contains(Sandbox& sandbox, const Value& container, const Value& item) {
  if (container.is(Kind::kString)) {
    if (!item.is(Kind::kString)) {
      return InvalidArgument(
          StrCat("'in <string>' requires string as left operand, not ", item.type_name()));
    }
    COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(container.text().size())));
    return Find(container.text(), item.text()) != std::string_view::npos;
  }
  if (container.is(Kind::kDict)) {
    COMET_RETURN_IF_ERROR(sandbox.SpendKey(item));
    return container.dict()->Find(item) != nullptr;
  }
  if (!container.is(Kind::kList) && !container.is(Kind::kUndefined)) {
    return InvalidArgument(
        StrCat("argument of type '", container.type_name(), "' is not iterable"));
  }
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox, container));
  for (const Value& candidate : items->items) {
    COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, candidate, item));
    if (is_equal) return true;
  }
  return false;
}

}  // namespace comet::jinja
