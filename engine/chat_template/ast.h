#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/chat_template/filters.h"
#include "engine/chat_template/lexer.h"
#include "engine/chat_template/operators.h"
#include "engine/chat_template/type_tests.h"
#include "engine/chat_template/value.h"

namespace comet::jinja {

enum class ExpressionKind {
  kConstant,   // constant
  kName,       // name
  kList,       // operands
  kTuple,      // operands
  kDict,       // operands: key, value, key, value, ...
  kAttribute,  // operands[0] . name
  kItem,       // operands[0] [ operands[1] ]
  kSlice,   // operands[0] [ operands[1] : operands[2] : operands[3] ], the last three may be null
  kCall,    // operands[0] ( arguments )
  kFilter,  // operands[0] | name ( arguments ); operands[0] is null for a block's content
  kTest,    // operands[0] is name ( arguments )
  kNot,     // not operands[0]
  kNegate,  // - operands[0]
  kPlus,    // + operands[0]
  kArithmetic,   // operands joined by operators, left to right
  kConcat,       // operands joined by ~
  kComparison,   // operands chained by operators
  kAnd,          // operands
  kOr,           // operands
  kConditional,  // operands[0] if operands[1] else operands[2], which may be null
};

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

// Arguments are the operands after the first: positional ones, then one for each argument name.
struct Expression {
  ExpressionKind kind;
  Position position;
  std::string name;
  Value constant;
  std::vector<ExpressionPtr> operands;
  std::vector<Operator> operators;
  std::vector<std::string> argument_names;
  Filter filter = nullptr;
  TypeTest test = nullptr;
};

enum class StatementKind {
  kText,         // text
  kOutput,       // expressions[0]
  kIf,           // bodies[i] if expressions[i]; one more body is the else
  kFor,          // targets in expressions[0] if expressions[1], may be null; bodies[1] is the else
  kSet,          // targets = expressions[0]; targets[0].attribute where has_attribute
  kSetBlock,     // targets[0] = bodies[0], through the filters of expressions[0], may be null
  kMacro,        // name(targets), the last targets default to expressions; bodies[0]
  kFilterBlock,  // bodies[0] through the filters of expressions[0]
  kWith,         // targets[i] = expressions[i] in bodies[0]
  kGroup,        // bodies[0] as it is: a generation tag
  kBreak,
  kContinue,
};

struct Statement;
using Body = std::vector<std::unique_ptr<const Statement>>;

struct Statement {
  StatementKind kind;
  Position position;
  std::string text;  // Of kText; the name of kMacro; the attribute of kSet and kSetBlock.
  bool has_attribute = false;
  std::vector<std::string> targets;
  bool unpacks = false;  // kFor, kSet: the value is a sequence, one item a target.
  std::vector<ExpressionPtr> expressions;
  std::vector<Body> bodies;
};

}  // namespace comet::jinja
