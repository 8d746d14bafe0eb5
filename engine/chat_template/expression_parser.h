#pragma once

#include "engine/chat_template/ast.h"
#include "engine/chat_template/token_stream.h"

namespace comet::jinja {

// Parses expressions by recursive descent, with Jinja's precedences (which are not quite Python's:
// `~` binds tighter than `+`). Errors of all: kInvalidArgument with line and column; kUnimplemented
// for a filter, test or argument form outside the subset.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& stream) : stream_(stream) {}

  Result<ExpressionPtr> ParseExpression();
  // Without the conditional form, which would take the `if` of a for statement.
  Result<ExpressionPtr> ParseOr();
  // Expressions with commas between them are a tuple. `without_conditional` as above.
  Result<ExpressionPtr> ParseTuple(bool without_conditional = false);
  // `name(arguments) | name ...`, applied to what is not written: the content of a block.
  Result<ExpressionPtr> ParseFiltersOfBlock();

 private:
  using Parse = Result<ExpressionPtr> (ExpressionParser::*)();
  struct Infix {
    std::string_view text;
    Operator op;
  };

  Result<ExpressionPtr> ParseAnd();
  Result<ExpressionPtr> ParseNot();
  Result<ExpressionPtr> ParseComparison();
  Result<ExpressionPtr> ParseSum();
  Result<ExpressionPtr> ParseConcat();
  Result<ExpressionPtr> ParseProduct();
  Result<ExpressionPtr> ParsePower();
  Result<ExpressionPtr> ParseUnary();
  Result<ExpressionPtr> ParseSigned();
  Result<ExpressionPtr> ParsePrimary();
  Result<ExpressionPtr> ParseName();
  Result<ExpressionPtr> ParseStrings();
  Result<ExpressionPtr> ParseParentheses();
  Result<ExpressionPtr> ParseList();
  Result<ExpressionPtr> ParseDict();
  Result<ExpressionPtr> ParsePostfix(ExpressionPtr expression);
  Result<ExpressionPtr> ParseAttribute(ExpressionPtr object);
  Result<ExpressionPtr> ParseSubscript(ExpressionPtr object);
  Result<ExpressionPtr> ParseCall(ExpressionPtr callee);
  Result<ExpressionPtr> ParseFiltersAndTests(ExpressionPtr expression);
  Result<ExpressionPtr> ParseFilter(ExpressionPtr input);
  Result<ExpressionPtr> ParseTest(ExpressionPtr input);

  Status ParseArguments(Expression& call);
  Result<ExpressionPtr> ParseChain(Parse parse, std::string_view word, ExpressionKind kind);
  Result<ExpressionPtr> ParseInfix(Parse parse, std::initializer_list<Infix> infixes);
  Result<ExpressionPtr> ParseSliceBound();
  bool TakeComparison(Operator& op);
  bool AtTestArgument() const;

  TokenStream& stream_;
};

}  // namespace comet::jinja
