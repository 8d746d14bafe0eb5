#include "engine/chat_template/interpreter.h"

#include <algorithm>
#include <utility>

#include "engine/chat_template/globals.h"
#include "engine/chat_template/python_text.h"
#include "engine/chat_template/subscripts.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {

Interpreter::Interpreter(Sandbox& sandbox) : sandbox_(sandbox) {
  root_.parent = &globals_;
  for (const GlobalFunction& global : GlobalFunctions()) {
    Callable callable;
    callable.name = global.name;
    callable.function = global.function;
    globals_.values[global.name] = Value(std::make_shared<const Callable>(std::move(callable)));
  }
}

void Interpreter::Define(std::string_view name, Value value) {
  root_.values[name] = std::move(value);
}

Result<std::string> Interpreter::Render(const Body& body) {
  std::string out;
  out_ = &out;
  const Result<Flow> flow = ExecuteBody(body);
  if (flow.ok()) return out;
  const Status status = flow.status();
  if (sandbox_.has_raised()) return status;
  return Status(status.code(), StrCat("chat template: line ", error_line_, ": ", status.message()));
}

Result<Interpreter::Flow> Interpreter::ExecuteBody(const Body& body) {
  const Sandbox::Nesting nesting(sandbox_);
  COMET_RETURN_IF_ERROR(nesting.status());
  for (const auto& statement : body) {
    const Result<Flow> flow = Execute(*statement);
    if (!flow.ok() && error_line_ == 0) error_line_ = statement->position.line;
    if (!flow.ok() || *flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::Execute(const Statement& statement) {
  COMET_RETURN_IF_ERROR(sandbox_.Spend(1));
  switch (statement.kind) {
    case StatementKind::kText: COMET_RETURN_IF_ERROR(Write(statement.text)); break;
    case StatementKind::kOutput: {
      COMET_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.expressions[0]));
      COMET_RETURN_IF_ERROR(Print(value));
      break;
    }
    case StatementKind::kIf: return ExecuteIf(statement);
    case StatementKind::kFor: return ExecuteFor(statement);
    case StatementKind::kWith: return ExecuteWith(statement);
    case StatementKind::kGroup: return ExecuteBody(statement.bodies[0]);
    case StatementKind::kSet: COMET_RETURN_IF_ERROR(ExecuteSet(statement)); break;
    case StatementKind::kSetBlock: COMET_RETURN_IF_ERROR(ExecuteSetBlock(statement)); break;
    case StatementKind::kFilterBlock: COMET_RETURN_IF_ERROR(ExecuteFilterBlock(statement)); break;
    case StatementKind::kMacro: DefineMacro(statement); break;
    case StatementKind::kBreak: return Flow::kBreak;
    case StatementKind::kContinue: return Flow::kContinue;
  }
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::ExecuteIf(const Statement& statement) {
  for (size_t i = 0; i < statement.expressions.size(); ++i) {
    COMET_ASSIGN_OR_RETURN(const Value condition, Evaluate(*statement.expressions[i]));
    if (condition.is_true()) return ExecuteBody(statement.bodies[i]);
  }
  const bool has_else = statement.bodies.size() > statement.expressions.size();
  return has_else ? ExecuteBody(statement.bodies.back()) : Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::ExecuteFor(const Statement& statement) {
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, LoopItems(statement));
  if (items->items.empty()) {
    if (statement.bodies.size() == 1) return Flow::kNext;
    const ScopeGuard scope(*this);
    return ExecuteBody(statement.bodies[1]);
  }
  const auto loop = std::make_shared<Loop>();
  loop->items = items;
  Flow flow = Flow::kNext;
  // The list may grow meanwhile, by append().
  for (size_t i = 0; i < items->items.size() && flow != Flow::kBreak; ++i) {
    COMET_RETURN_IF_ERROR(sandbox_.Spend(1));
    loop->index0 = static_cast<int64_t>(i);
    const ScopeGuard scope(*this);
    scope_->values["loop"] = Value(loop);
    const Value item = items->items[i];
    COMET_RETURN_IF_ERROR(BindTargets(statement, item));
    COMET_ASSIGN_OR_RETURN(flow, ExecuteBody(statement.bodies[0]));
  }
  loop->last_changed = Value();  // It may hold the loop itself.
  return Flow::kNext;
}

Result<std::shared_ptr<List>> Interpreter::LoopItems(const Statement& statement) {
  COMET_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.expressions[0]));
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox_, value));
  const Expression* condition = statement.expressions[1].get();
  if (!condition) return items;
  std::vector<Value> selected;
  for (size_t i = 0; i < items->items.size(); ++i) {
    COMET_RETURN_IF_ERROR(sandbox_.Spend(1));
    const Value item = items->items[i];
    const ScopeGuard scope(*this);
    COMET_RETURN_IF_ERROR(BindTargets(statement, item));
    COMET_ASSIGN_OR_RETURN(const Value is_selected, Evaluate(*condition));
    if (is_selected.is_true()) selected.push_back(item);
  }
  COMET_ASSIGN_OR_RETURN(const Value list, sandbox_.NewList(std::move(selected)));
  return list.list();
}

Result<Interpreter::Flow> Interpreter::ExecuteWith(const Statement& statement) {
  std::vector<Value> values;
  for (const ExpressionPtr& expression : statement.expressions) {
    COMET_ASSIGN_OR_RETURN(Value value, Evaluate(*expression));
    values.push_back(std::move(value));
  }
  const ScopeGuard scope(*this);
  for (size_t i = 0; i < values.size(); ++i) {
    scope_->values[statement.targets[i]] = std::move(values[i]);
  }
  return ExecuteBody(statement.bodies[0]);
}

Status Interpreter::ExecuteSet(const Statement& statement) {
  COMET_ASSIGN_OR_RETURN(Value value, Evaluate(*statement.expressions[0]));
  return Assign(statement, std::move(value));
}

Status Interpreter::ExecuteSetBlock(const Statement& statement) {
  COMET_ASSIGN_OR_RETURN(Value content, Capture(statement.bodies[0]));
  if (statement.expressions[0]) {
    block_content_ = std::move(content);
    COMET_ASSIGN_OR_RETURN(content, Evaluate(*statement.expressions[0]));
  }
  return Assign(statement, std::move(content));
}

Status Interpreter::ExecuteFilterBlock(const Statement& statement) {
  COMET_ASSIGN_OR_RETURN(block_content_, Capture(statement.bodies[0]));
  COMET_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.expressions[0]));
  return Print(value);
}

void Interpreter::DefineMacro(const Statement& statement) {
  Callable macro;
  macro.name = statement.text;
  macro.macro = &statement;
  macro.macro_scope = scope_;
  for (Scope* scope = scope_; scope; scope = scope->parent) scope->is_kept = true;
  scope_->values[statement.text] = Value(std::make_shared<const Callable>(std::move(macro)));
}

Status Interpreter::Assign(const Statement& statement, Value value) {
  if (!statement.has_attribute) return BindTargets(statement, value);
  const Value* target = Find(statement.targets[0]);
  if (!target || !target->is(Kind::kNamespace)) {
    return InvalidArgument("cannot assign attribute on non-namespace object");
  }
  COMET_RETURN_IF_ERROR(
      sandbox_.Spend(static_cast<int64_t>(target->name_space()->attributes.size()) / 64));
  target->name_space()->Set(statement.text, std::move(value));
  return Status::Ok();
}

Status Interpreter::BindTargets(const Statement& statement, const Value& value) {
  if (!statement.unpacks) {
    scope_->values[statement.targets[0]] = value;
    return Status::Ok();
  }
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> parts, Iterate(sandbox_, value));
  const size_t num_targets = statement.targets.size();
  if (parts->items.size() != num_targets) {
    return InvalidArgument(StrCat("the number of values to unpack is ", parts->items.size(),
                                  ", expected ", num_targets));
  }
  for (size_t i = 0; i < num_targets; ++i) {
    scope_->values[statement.targets[i]] = parts->items[i];
  }
  return Status::Ok();
}

Status Interpreter::Print(const Value& value) {
  COMET_ASSIGN_OR_RETURN(const Value text, ToText(sandbox_, value));
  return Write(text.text());
}

Status Interpreter::Write(std::string_view text) {
  COMET_RETURN_IF_ERROR(sandbox_.SpendBytes(static_cast<int64_t>(text.size())));
  num_out_bytes_ += static_cast<int64_t>(text.size());
  if (num_out_bytes_ > sandbox_.output_bytes_max()) {
    return ResourceExhausted(
        StrCat("the output is longer than ", sandbox_.output_bytes_max(), " bytes"));
  }
  *out_ += text;
  return Status::Ok();
}

Result<Value> Interpreter::Capture(const Body& body) {
  std::string captured;
  std::string* outer = std::exchange(out_, &captured);
  const ScopeGuard scope(*this);
  const Result<Flow> flow = ExecuteBody(body);
  out_ = outer;
  COMET_RETURN_IF_ERROR(flow.status());
  num_out_bytes_ -= static_cast<int64_t>(captured.size());
  return sandbox_.NewString(std::move(captured));
}

const Value* Interpreter::Find(std::string_view name) const {
  for (const Scope* scope = scope_; scope; scope = scope->parent) {
    const auto it = scope->values.find(name);
    if (it != scope->values.end()) return &it->second;
  }
  return nullptr;
}

}  // namespace comet::jinja
