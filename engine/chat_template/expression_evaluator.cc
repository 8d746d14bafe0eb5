#include <algorithm>
#include <utility>

#include "engine/chat_template/comparisons.h"
#include "engine/chat_template/interpreter.h"
#include "engine/chat_template/methods.h"
#include "engine/chat_template/operators.h"
#include "engine/chat_template/python_text.h"
#include "engine/chat_template/subscripts.h"
#include "kernels/base/check.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {

Result<Value> Interpreter::Evaluate(const Expression& expression) {
  const Sandbox::Nesting nesting(sandbox_);
  COMET_RETURN_IF_ERROR(nesting.status());
  COMET_RETURN_IF_ERROR(sandbox_.Spend(1));
  Result<Value> value = EvaluateKind(expression);
  if (!value.ok() && error_line_ == 0) error_line_ = expression.position.line;
  return value;
}

Result<Value> Interpreter::EvaluateKind(const Expression& expression) {
  switch (expression.kind) {
    case ExpressionKind::kConstant: return expression.constant;
    case ExpressionKind::kName: return EvaluateName(expression);
    case ExpressionKind::kList:
    case ExpressionKind::kTuple: return EvaluateItems(expression);
    case ExpressionKind::kDict: return EvaluateDict(expression);
    case ExpressionKind::kAttribute:
    case ExpressionKind::kItem: return EvaluateItem(expression);
    case ExpressionKind::kSlice: return EvaluateSlice(expression);
    case ExpressionKind::kCall: return EvaluateCall(expression);
    case ExpressionKind::kFilter: return EvaluateFilter(expression);
    case ExpressionKind::kTest: return EvaluateTest(expression);
    case ExpressionKind::kNot: {
      COMET_ASSIGN_OR_RETURN(const Value operand, Evaluate(*expression.operands[0]));
      return Value(!operand.is_true());
    }
    case ExpressionKind::kNegate:
    case ExpressionKind::kPlus: return EvaluateSign(expression);
    case ExpressionKind::kArithmetic: return EvaluateArithmetic(expression);
    case ExpressionKind::kConcat: return EvaluateConcat(expression);
    case ExpressionKind::kComparison: return EvaluateComparison(expression);
    case ExpressionKind::kAnd:
    case ExpressionKind::kOr: return EvaluateLogic(expression);
    case ExpressionKind::kConditional: return EvaluateConditional(expression);
  }
  return Value();
}

Result<Value> Interpreter::EvaluateName(const Expression& expression) {
  const Value* found = Find(expression.name);
  return found ? *found : Value::Undefined(StrCat("'", expression.name, "' is undefined"));
}

Result<Value> Interpreter::EvaluateItems(const Expression& expression) {
  std::vector<Value> items;
  items.reserve(expression.operands.size());
  for (const ExpressionPtr& operand : expression.operands) {
    COMET_ASSIGN_OR_RETURN(Value item, Evaluate(*operand));
    items.push_back(std::move(item));
  }
  const bool is_tuple = expression.kind == ExpressionKind::kTuple;
  return sandbox_.NewList(std::move(items), is_tuple ? ListKind::kTuple : ListKind::kList);
}

Result<Value> Interpreter::EvaluateDict(const Expression& expression) {
  std::vector<std::pair<Value, Value>> items;
  for (size_t i = 0; i < expression.operands.size(); i += 2) {
    COMET_ASSIGN_OR_RETURN(Value key, Evaluate(*expression.operands[i]));
    COMET_ASSIGN_OR_RETURN(Value value, Evaluate(*expression.operands[i + 1]));
    items.emplace_back(std::move(key), std::move(value));
  }
  return sandbox_.NewDict(std::move(items));
}

Result<Value> Interpreter::EvaluateItem(const Expression& expression) {
  COMET_ASSIGN_OR_RETURN(const Value object, Evaluate(*expression.operands[0]));
  if (expression.kind == ExpressionKind::kAttribute) {
    return GetAttribute(sandbox_, object, expression.name);
  }
  COMET_ASSIGN_OR_RETURN(const Value index, Evaluate(*expression.operands[1]));
  return GetItem(sandbox_, object, index);
}

Result<Value> Interpreter::EvaluateSlice(const Expression& expression) {
  COMET_ASSIGN_OR_RETURN(const Value object, Evaluate(*expression.operands[0]));
  COMET_ASSIGN_OR_RETURN(const Value start, EvaluateOptional(expression.operands[1]));
  COMET_ASSIGN_OR_RETURN(const Value stop, EvaluateOptional(expression.operands[2]));
  COMET_ASSIGN_OR_RETURN(const Value step, EvaluateOptional(expression.operands[3]));
  return Slice(sandbox_, object, start, stop, step);
}

Result<Value> Interpreter::EvaluateOptional(const ExpressionPtr& expression) {
  return expression ? Evaluate(*expression) : Value();
}

Result<Value> Interpreter::EvaluateCall(const Expression& expression) {
  const Expression& callee = *expression.operands[0];
  // The usual case, `object.method(...)`, without making a bound method.
  if (callee.kind == ExpressionKind::kAttribute) {
    COMET_ASSIGN_OR_RETURN(const Value object, Evaluate(*callee.operands[0]));
    COMET_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(expression));
    if (HasMethod(object, callee.name)) {
      return CallMethod(sandbox_, object, callee.name, arguments);
    }
    COMET_ASSIGN_OR_RETURN(const Value attribute, GetAttribute(sandbox_, object, callee.name));
    return Call(attribute, arguments);
  }
  COMET_ASSIGN_OR_RETURN(const Value function, Evaluate(callee));
  COMET_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(expression));
  return Call(function, arguments);
}

Result<Arguments> Interpreter::EvaluateArguments(const Expression& call) {
  Arguments arguments;
  const size_t num_named = call.argument_names.size();
  const size_t first_named = call.operands.size() - num_named;
  for (size_t i = 1; i < call.operands.size(); ++i) {
    COMET_ASSIGN_OR_RETURN(Value value, Evaluate(*call.operands[i]));
    if (i < first_named) {
      arguments.positional.push_back(std::move(value));
    } else {
      arguments.named.emplace_back(call.argument_names[i - first_named], std::move(value));
    }
  }
  return arguments;
}

Result<Value> Interpreter::Call(const Value& callee, const Arguments& arguments) {
  if (callee.is(Kind::kUndefined)) return InvalidArgument(callee.what());
  if (!callee.is(Kind::kCallable)) {
    return InvalidArgument(StrCat("'", callee.type_name(), "' object is not callable"));
  }
  const Callable& callable = callee.callable();
  if (callable.macro) return CallMacro(callable, arguments);
  if (callable.function) return callable.function(sandbox_, arguments);
  return CallMethod(sandbox_, callable.self, callable.name, arguments);
}

Result<Value> Interpreter::CallMacro(const Callable& callable, const Arguments& arguments) {
  const Value content_outside = block_content_;
  Scope* const caller = std::exchange(scope_, static_cast<Scope*>(callable.macro_scope));
  Result<Value> text = [&]() -> Result<Value> {
    const ScopeGuard scope(*this);
    COMET_RETURN_IF_ERROR(BindParameters(*callable.macro, arguments));
    return Capture(callable.macro->bodies[0]);
  }();
  scope_ = caller;
  block_content_ = content_outside;
  return text;
}

Status Interpreter::BindParameters(const Statement& macro, const Arguments& arguments) {
  const size_t num_parameters = macro.targets.size();
  const size_t first_default = num_parameters - macro.expressions.size();
  if (arguments.positional.size() > num_parameters) {
    return InvalidArgument(
        StrCat("macro '", macro.text, "' takes not more than ", num_parameters, " arguments"));
  }
  for (const auto& [name, value] : arguments.named) {
    const auto it = std::find(macro.targets.begin(), macro.targets.end(), name);
    if (it == macro.targets.end()) {
      return InvalidArgument(StrCat("macro '", macro.text, "' takes no argument '", name, "'"));
    }
    scope_->values[*it] = value;
  }
  for (size_t i = 0; i < num_parameters; ++i) {
    const std::string& name = macro.targets[i];
    if (i < arguments.positional.size()) {
      if (scope_->values.contains(name)) {
        return InvalidArgument(StrCat("macro '", macro.text, "' got '", name, "' twice"));
      }
      scope_->values[name] = arguments.positional[i];
    } else if (!scope_->values.contains(name) && i >= first_default) {
      COMET_ASSIGN_OR_RETURN(Value value, Evaluate(*macro.expressions[i - first_default]));
      scope_->values[name] = std::move(value);
    } else if (!scope_->values.contains(name)) {
      scope_->values[name] = Value::Undefined(StrCat("parameter '", name, "' was not provided"));
    }
  }
  return Status::Ok();
}

Result<Value> Interpreter::EvaluateFilter(const Expression& expression) {
  Value input = block_content_;
  if (expression.operands[0]) {
    COMET_ASSIGN_OR_RETURN(input, Evaluate(*expression.operands[0]));
  }
  COMET_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(expression));
  return expression.filter(sandbox_, input, arguments);
}

Result<Value> Interpreter::EvaluateTest(const Expression& expression) {
  COMET_ASSIGN_OR_RETURN(const Value input, Evaluate(*expression.operands[0]));
  COMET_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(expression));
  COMET_ASSIGN_OR_RETURN(const bool is_true, expression.test(sandbox_, input, arguments));
  return Value(is_true);
}

Result<Value> Interpreter::EvaluateSign(const Expression& expression) {
  COMET_ASSIGN_OR_RETURN(const Value operand, Evaluate(*expression.operands[0]));
  const Value zero(int64_t{0});
  if (expression.kind == ExpressionKind::kPlus) {
    return Arithmetic(sandbox_, Operator::kAdd, zero, operand);
  }
  if (operand.is(Kind::kFloat)) return Value(-operand.real());
  return Arithmetic(sandbox_, Operator::kSubtract, zero, operand);
}

Result<Value> Interpreter::EvaluateArithmetic(const Expression& expression) {
  COMET_ASSIGN_OR_RETURN(Value left, Evaluate(*expression.operands[0]));
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    COMET_ASSIGN_OR_RETURN(const Value right, Evaluate(*expression.operands[i + 1]));
    COMET_ASSIGN_OR_RETURN(left, Arithmetic(sandbox_, expression.operators[i], left, right));
  }
  return left;
}

Result<Value> Interpreter::EvaluateConcat(const Expression& expression) {
  std::string joined;
  for (const ExpressionPtr& operand : expression.operands) {
    COMET_ASSIGN_OR_RETURN(const Value value, Evaluate(*operand));
    COMET_ASSIGN_OR_RETURN(const Value text, ToText(sandbox_, value));
    joined += text.text();
    COMET_RETURN_IF_ERROR(sandbox_.CheckTextBytes(static_cast<int64_t>(joined.size())));
  }
  return sandbox_.NewString(std::move(joined));
}

// `a < b < c` is `a < b and b < c`, each operand evaluated once.
Result<Value> Interpreter::EvaluateComparison(const Expression& expression) {
  COMET_ASSIGN_OR_RETURN(Value left, Evaluate(*expression.operands[0]));
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    COMET_ASSIGN_OR_RETURN(Value right, Evaluate(*expression.operands[i + 1]));
    COMET_ASSIGN_OR_RETURN(const bool holds,
                           Compare(sandbox_, expression.operators[i], left, right));
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

// The first operand that decides, not its truth value.
Result<Value> Interpreter::EvaluateLogic(const Expression& expression) {
  const bool decides = expression.kind == ExpressionKind::kOr;
  Value value;
  for (const ExpressionPtr& operand : expression.operands) {
    COMET_ASSIGN_OR_RETURN(value, Evaluate(*operand));
    if (value.is_true() == decides) break;
  }
  return value;
}

Result<Value> Interpreter::EvaluateConditional(const Expression& expression) {
  COMET_ASSIGN_OR_RETURN(const Value condition, Evaluate(*expression.operands[1]));
  if (condition.is_true()) return Evaluate(*expression.operands[0]);
  if (expression.operands[2]) return Evaluate(*expression.operands[2]);
  return Value::Undefined("the inline if has no else and its condition is false");
}

}  // namespace comet::jinja
