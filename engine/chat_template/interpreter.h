#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/chat_template/ast.h"
#include "engine/chat_template/sandbox.h"
#include "engine/chat_template/value.h"

namespace comet::jinja {

// The variables of one block. A macro sees the scope it was defined in.
struct Scope {
  Scope* parent = nullptr;
  std::unordered_map<std::string_view, Value> values;  // Names belong to the tree.
  bool is_kept = false;  // A macro refers to it, so it lives until the end of the rendering.
};

// Renders one template once: evaluates the tree against given values. Confined to one thread.
class Interpreter {
 public:
  explicit Interpreter(Sandbox& sandbox);

  // `name` outlives the interpreter.
  void Define(std::string_view name, Value value);

  // Errors: kInvalidArgument for what the template does wrong, with the line, or the message of its
  // own raise_exception(); kResourceExhausted for a limit.
  Result<std::string> Render(const Body& body);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  // Opens a scope for as long as it lives, over the current one.
  class ScopeGuard {
   public:
    explicit ScopeGuard(Interpreter& interpreter)
        : interpreter_(interpreter), scope_(std::make_unique<Scope>()) {
      scope_->parent = interpreter_.scope_;
      interpreter_.scope_ = scope_.get();
    }
    ~ScopeGuard() {
      interpreter_.scope_ = scope_->parent;
      if (scope_->is_kept) interpreter_.kept_scopes_.push_back(std::move(scope_));
    }
    ScopeGuard(const ScopeGuard&) = delete;
    ScopeGuard& operator=(const ScopeGuard&) = delete;

   private:
    Interpreter& interpreter_;
    std::unique_ptr<Scope> scope_;
  };

  // Statements.
  Result<Flow> ExecuteBody(const Body& body);
  Result<Flow> Execute(const Statement& statement);
  Result<Flow> ExecuteIf(const Statement& statement);
  Result<Flow> ExecuteFor(const Statement& statement);
  Result<Flow> ExecuteWith(const Statement& statement);
  Status ExecuteSet(const Statement& statement);
  Status ExecuteSetBlock(const Statement& statement);
  Status ExecuteFilterBlock(const Statement& statement);
  void DefineMacro(const Statement& statement);

  Result<std::shared_ptr<List>> LoopItems(const Statement& statement);
  Status BindTargets(const Statement& statement, const Value& value);
  Status Assign(const Statement& statement, Value value);
  Status Print(const Value& value);
  Status Write(std::string_view text);
  // The text that a body prints, in a scope of its own.
  Result<Value> Capture(const Body& body);

  // Expressions.
  Result<Value> Evaluate(const Expression& expression);
  Result<Value> EvaluateKind(const Expression& expression);
  Result<Value> EvaluateName(const Expression& expression);
  Result<Value> EvaluateItems(const Expression& expression);
  Result<Value> EvaluateDict(const Expression& expression);
  Result<Value> EvaluateItem(const Expression& expression);
  Result<Value> EvaluateSlice(const Expression& expression);
  Result<Value> EvaluateCall(const Expression& expression);
  Result<Value> EvaluateFilter(const Expression& expression);
  Result<Value> EvaluateTest(const Expression& expression);
  Result<Value> EvaluateSign(const Expression& expression);
  Result<Value> EvaluateArithmetic(const Expression& expression);
  Result<Value> EvaluateConcat(const Expression& expression);
  Result<Value> EvaluateComparison(const Expression& expression);
  Result<Value> EvaluateLogic(const Expression& expression);
  Result<Value> EvaluateConditional(const Expression& expression);
  // Undefined where the operand is absent.
  Result<Value> EvaluateOptional(const ExpressionPtr& expression);
  Result<Arguments> EvaluateArguments(const Expression& call);

  Result<Value> Call(const Value& callee, const Arguments& arguments);
  Result<Value> CallMacro(const Callable& macro, const Arguments& arguments);
  Status BindParameters(const Statement& macro, const Arguments& arguments);

  const Value* Find(std::string_view name) const;

  Sandbox& sandbox_;
  Scope globals_;
  Scope root_;
  Scope* scope_ = &root_;
  std::vector<std::unique_ptr<Scope>> kept_scopes_;
  std::string* out_ = nullptr;
  int64_t num_out_bytes_ = 0;  // In all open captures.
  Value block_content_;        // What a filter block's filters work on.
  int error_line_ = 0;         // Of the innermost construct that failed; 0: none.
};

}  // namespace comet::jinja
