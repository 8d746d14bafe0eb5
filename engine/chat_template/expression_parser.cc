#include "engine/chat_template/expression_parser.h"

#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

std::unique_ptr<Expression> MakeExpression(ExpressionKind kind, Position position) {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->position = position;
  return expression;
}

ExpressionPtr MakeConstant(Position position, Value value) {
  auto constant = MakeExpression(ExpressionKind::kConstant, position);
  constant->constant = std::move(value);
  return constant;
}

}  // namespace

Result<ExpressionPtr> ExpressionParser::ParseExpression() {
  const TokenStream::Nesting nesting(stream_);
  COMET_RETURN_IF_ERROR(nesting.status());
  COMET_ASSIGN_OR_RETURN(ExpressionPtr value, ParseOr());
  while (stream_.AtName("if")) {
    auto conditional = MakeExpression(ExpressionKind::kConditional, stream_.current().position);
    stream_.Advance();
    COMET_ASSIGN_OR_RETURN(ExpressionPtr condition, ParseOr());
    ExpressionPtr otherwise;
    if (stream_.SkipName("else")) {
      COMET_ASSIGN_OR_RETURN(otherwise, ParseExpression());
    }
    conditional->operands.push_back(std::move(value));
    conditional->operands.push_back(std::move(condition));
    conditional->operands.push_back(std::move(otherwise));
    value = std::move(conditional);
  }
  return value;
}

Result<ExpressionPtr> ExpressionParser::ParseOr() {
  return ParseChain(&ExpressionParser::ParseAnd, "or", ExpressionKind::kOr);
}

Result<ExpressionPtr> ExpressionParser::ParseAnd() {
  return ParseChain(&ExpressionParser::ParseNot, "and", ExpressionKind::kAnd);
}

Result<ExpressionPtr> ExpressionParser::ParseNot() {
  if (!stream_.AtName("not")) return ParseComparison();
  const TokenStream::Nesting nesting(stream_);
  COMET_RETURN_IF_ERROR(nesting.status());
  auto negation = MakeExpression(ExpressionKind::kNot, stream_.current().position);
  stream_.Advance();
  COMET_ASSIGN_OR_RETURN(ExpressionPtr operand, ParseNot());
  negation->operands.push_back(std::move(operand));
  return ExpressionPtr(std::move(negation));
}

Result<ExpressionPtr> ExpressionParser::ParseComparison() {
  auto comparison = MakeExpression(ExpressionKind::kComparison, stream_.current().position);
  COMET_ASSIGN_OR_RETURN(ExpressionPtr operand, ParseSum());
  Operator op{};
  while (TakeComparison(op)) {
    comparison->operands.push_back(std::move(operand));
    comparison->operators.push_back(op);
    COMET_ASSIGN_OR_RETURN(operand, ParseSum());
  }
  if (comparison->operators.empty()) return operand;
  comparison->operands.push_back(std::move(operand));
  return ExpressionPtr(std::move(comparison));
}

bool ExpressionParser::TakeComparison(Operator& op) {
  constexpr Infix kComparisons[] = {
      {"==", Operator::kEqual},       {"!=", Operator::kNotEqual},
      {"<=", Operator::kLessOrEqual}, {">=", Operator::kGreaterOrEqual},
      {"<", Operator::kLess},         {">", Operator::kGreater},
  };
  for (const Infix& comparison : kComparisons) {
    op = comparison.op;
    if (stream_.SkipOperator(comparison.text)) return true;
  }
  op = Operator::kIn;
  if (stream_.SkipName("in")) return true;
  op = Operator::kNotIn;
  const Token& next = stream_.next();
  if (!stream_.AtName("not") || next.kind != TokenKind::kName || next.text != "in") return false;
  stream_.Advance();
  stream_.Advance();
  return true;
}

Result<ExpressionPtr> ExpressionParser::ParseSum() {
  return ParseInfix(&ExpressionParser::ParseConcat,
                    {{"+", Operator::kAdd}, {"-", Operator::kSubtract}});
}

Result<ExpressionPtr> ExpressionParser::ParseConcat() {
  auto concat = MakeExpression(ExpressionKind::kConcat, stream_.current().position);
  COMET_ASSIGN_OR_RETURN(ExpressionPtr operand, ParseProduct());
  while (stream_.SkipOperator("~")) {
    concat->operands.push_back(std::move(operand));
    COMET_ASSIGN_OR_RETURN(operand, ParseProduct());
  }
  if (concat->operands.empty()) return operand;
  concat->operands.push_back(std::move(operand));
  return ExpressionPtr(std::move(concat));
}

Result<ExpressionPtr> ExpressionParser::ParseProduct() {
  return ParseInfix(&ExpressionParser::ParsePower, {{"*", Operator::kMultiply},
                                                    {"//", Operator::kFloorDivide},
                                                    {"/", Operator::kDivide},
                                                    {"%", Operator::kModulo}});
}

Result<ExpressionPtr> ExpressionParser::ParsePower() {
  return ParseInfix(&ExpressionParser::ParseUnary, {{"**", Operator::kPower}});
}

// A signed operand with its filters: `-x|abs` is the absolute value of -x.
Result<ExpressionPtr> ExpressionParser::ParseUnary() {
  COMET_ASSIGN_OR_RETURN(ExpressionPtr expression, ParseSigned());
  return ParseFiltersAndTests(std::move(expression));
}

Result<ExpressionPtr> ExpressionParser::ParseSigned() {
  ExpressionPtr expression;
  if (stream_.AtOperator("-") || stream_.AtOperator("+")) {
    const TokenStream::Nesting nesting(stream_);
    COMET_RETURN_IF_ERROR(nesting.status());
    const auto kind = stream_.AtOperator("-") ? ExpressionKind::kNegate : ExpressionKind::kPlus;
    auto sign = MakeExpression(kind, stream_.current().position);
    stream_.Advance();
    COMET_ASSIGN_OR_RETURN(ExpressionPtr operand, ParseSigned());
    sign->operands.push_back(std::move(operand));
    expression = std::move(sign);
  } else {
    COMET_ASSIGN_OR_RETURN(expression, ParsePrimary());
  }
  return ParsePostfix(std::move(expression));
}

Result<ExpressionPtr> ExpressionParser::ParsePrimary() {
  const Token& token = stream_.current();
  switch (token.kind) {
    case TokenKind::kName: return ParseName();
    case TokenKind::kString: return ParseStrings();
    case TokenKind::kInteger:
    case TokenKind::kFloat: {
      const Value number =
          token.kind == TokenKind::kFloat ? Value(token.real) : Value(token.integer);
      ExpressionPtr constant = MakeConstant(token.position, number);
      stream_.Advance();
      return constant;
    }
    case TokenKind::kOperator:
      if (token.text == "(") return ParseParentheses();
      if (token.text == "[") return ParseList();
      if (token.text == "{") return ParseDict();
      break;
    default: break;
  }
  return stream_.Unexpected("an expression");
}

Result<ExpressionPtr> ExpressionParser::ParseName() {
  const Position position = stream_.current().position;
  const std::string word = stream_.current().text;
  stream_.Advance();
  if (word == "true" || word == "True") return MakeConstant(position, Value(true));
  if (word == "false" || word == "False") return MakeConstant(position, Value(false));
  if (word == "none" || word == "None") return MakeConstant(position, Value::None());
  auto name = MakeExpression(ExpressionKind::kName, position);
  name->name = word;
  return ExpressionPtr(std::move(name));
}

// Adjacent strings are one.
Result<ExpressionPtr> ExpressionParser::ParseStrings() {
  const Position position = stream_.current().position;
  std::string text;
  for (; stream_.At(TokenKind::kString); stream_.Advance()) text += stream_.current().text;
  return MakeConstant(position, Value::Constant(std::move(text)));
}

Result<ExpressionPtr> ExpressionParser::ParseParentheses() {
  const Position position = stream_.current().position;
  COMET_RETURN_IF_ERROR(stream_.ExpectOperator("("));
  ExpressionPtr content;
  if (stream_.AtOperator(")")) {
    content = MakeExpression(ExpressionKind::kTuple, position);
  } else {
    COMET_ASSIGN_OR_RETURN(content, ParseTuple());
  }
  COMET_RETURN_IF_ERROR(stream_.ExpectOperator(")"));
  return content;
}

Result<ExpressionPtr> ExpressionParser::ParseTuple(bool without_conditional) {
  auto tuple = MakeExpression(ExpressionKind::kTuple, stream_.current().position);
  while (true) {
    COMET_ASSIGN_OR_RETURN(ExpressionPtr item, without_conditional ? ParseOr() : ParseExpression());
    if (tuple->operands.empty() && !stream_.AtOperator(",")) return item;
    tuple->operands.push_back(std::move(item));
    if (!stream_.SkipOperator(",")) break;
    const bool ends = stream_.AtOperator(")") || stream_.At(TokenKind::kBlockEnd) ||
                      stream_.At(TokenKind::kOutputEnd);
    if (ends) break;
  }
  return ExpressionPtr(std::move(tuple));
}

Result<ExpressionPtr> ExpressionParser::ParseList() {
  auto list = MakeExpression(ExpressionKind::kList, stream_.current().position);
  COMET_RETURN_IF_ERROR(stream_.ExpectOperator("["));
  while (!stream_.AtOperator("]")) {
    COMET_ASSIGN_OR_RETURN(ExpressionPtr item, ParseExpression());
    list->operands.push_back(std::move(item));
    if (!stream_.AtOperator("]")) COMET_RETURN_IF_ERROR(stream_.ExpectOperator(","));
  }
  stream_.Advance();
  return ExpressionPtr(std::move(list));
}

Result<ExpressionPtr> ExpressionParser::ParseDict() {
  auto dict = MakeExpression(ExpressionKind::kDict, stream_.current().position);
  COMET_RETURN_IF_ERROR(stream_.ExpectOperator("{"));
  while (!stream_.AtOperator("}")) {
    COMET_ASSIGN_OR_RETURN(ExpressionPtr key, ParseExpression());
    COMET_RETURN_IF_ERROR(stream_.ExpectOperator(":"));
    COMET_ASSIGN_OR_RETURN(ExpressionPtr value, ParseExpression());
    dict->operands.push_back(std::move(key));
    dict->operands.push_back(std::move(value));
    if (!stream_.AtOperator("}")) COMET_RETURN_IF_ERROR(stream_.ExpectOperator(","));
  }
  stream_.Advance();
  return ExpressionPtr(std::move(dict));
}

// Attributes, subscripts and calls. Each makes the tree deeper, so they count as nesting too.
Result<ExpressionPtr> ExpressionParser::ParsePostfix(ExpressionPtr expression) {
  for (int length = 0;; ++length) {
    if (length > stream_.depth_max()) return stream_.Error("the chain of attributes is too long");
    if (stream_.AtOperator(".")) {
      COMET_ASSIGN_OR_RETURN(expression, ParseAttribute(std::move(expression)));
    } else if (stream_.AtOperator("[")) {
      COMET_ASSIGN_OR_RETURN(expression, ParseSubscript(std::move(expression)));
    } else if (stream_.AtOperator("(")) {
      COMET_ASSIGN_OR_RETURN(expression, ParseCall(std::move(expression)));
    } else {
      return expression;
    }
  }
}

Result<ExpressionPtr> ExpressionParser::ParseAttribute(ExpressionPtr object) {
  stream_.Advance();
  const Token& token = stream_.current();
  const bool is_index = token.kind == TokenKind::kInteger;
  if (!is_index && token.kind != TokenKind::kName) return stream_.Unexpected("a name or number");
  auto attribute =
      MakeExpression(is_index ? ExpressionKind::kItem : ExpressionKind::kAttribute, token.position);
  attribute->operands.push_back(std::move(object));
  if (is_index) {
    attribute->operands.push_back(MakeConstant(token.position, Value(token.integer)));
  } else {
    attribute->name = token.text;
  }
  stream_.Advance();
  return ExpressionPtr(std::move(attribute));
}

Result<ExpressionPtr> ExpressionParser::ParseSubscript(ExpressionPtr object) {
  auto subscript = MakeExpression(ExpressionKind::kItem, stream_.current().position);
  stream_.Advance();
  subscript->operands.push_back(std::move(object));
  COMET_ASSIGN_OR_RETURN(ExpressionPtr index, ParseSliceBound());
  const bool has_index = index != nullptr;
  subscript->operands.push_back(std::move(index));
  if (stream_.SkipOperator(":")) {
    subscript->kind = ExpressionKind::kSlice;
    COMET_ASSIGN_OR_RETURN(ExpressionPtr stop, ParseSliceBound());
    subscript->operands.push_back(std::move(stop));
    ExpressionPtr step;
    if (stream_.SkipOperator(":")) {
      COMET_ASSIGN_OR_RETURN(step, ParseSliceBound());
    }
    subscript->operands.push_back(std::move(step));
  } else if (!has_index) {
    return stream_.Unexpected("an index");
  }
  COMET_RETURN_IF_ERROR(stream_.ExpectOperator("]"));
  return ExpressionPtr(std::move(subscript));
}

// Null when nothing stands between the colons.
Result<ExpressionPtr> ExpressionParser::ParseSliceBound() {
  if (stream_.AtOperator(":") || stream_.AtOperator("]")) return ExpressionPtr();
  return ParseExpression();
}

Result<ExpressionPtr> ExpressionParser::ParseCall(ExpressionPtr callee) {
  auto call = MakeExpression(ExpressionKind::kCall, stream_.current().position);
  call->operands.push_back(std::move(callee));
  COMET_RETURN_IF_ERROR(ParseArguments(*call));
  return ExpressionPtr(std::move(call));
}

Status ExpressionParser::ParseArguments(Expression& call) {
  COMET_RETURN_IF_ERROR(stream_.ExpectOperator("("));
  while (!stream_.AtOperator(")")) {
    if (stream_.AtOperator("*") || stream_.AtOperator("**")) {
      return stream_.NotSupported("unpacking arguments with * or **");
    }
    const Token& next = stream_.next();
    const bool is_named =
        stream_.At(TokenKind::kName) && next.kind == TokenKind::kOperator && next.text == "=";
    if (is_named) {
      call.argument_names.push_back(stream_.current().text);
      stream_.Advance();
      stream_.Advance();
    } else if (!call.argument_names.empty()) {
      return stream_.Error("a positional argument follows a named one");
    }
    COMET_ASSIGN_OR_RETURN(ExpressionPtr argument, ParseExpression());
    call.operands.push_back(std::move(argument));
    if (!stream_.AtOperator(")")) COMET_RETURN_IF_ERROR(stream_.ExpectOperator(","));
  }
  stream_.Advance();
  return Status::Ok();
}

Result<ExpressionPtr> ExpressionParser::ParseFiltersAndTests(ExpressionPtr expression) {
  for (int length = 0;; ++length) {
    if (length > stream_.depth_max()) return stream_.Error("the chain of filters is too long");
    if (stream_.AtOperator("|")) {
      stream_.Advance();
      COMET_ASSIGN_OR_RETURN(expression, ParseFilter(std::move(expression)));
    } else if (stream_.AtName("is")) {
      stream_.Advance();
      COMET_ASSIGN_OR_RETURN(expression, ParseTest(std::move(expression)));
    } else if (stream_.AtOperator("(")) {
      COMET_ASSIGN_OR_RETURN(expression, ParseCall(std::move(expression)));
    } else {
      return expression;
    }
  }
}

Result<ExpressionPtr> ExpressionParser::ParseFiltersOfBlock() {
  COMET_ASSIGN_OR_RETURN(ExpressionPtr expression, ParseFilter(nullptr));
  return ParseFiltersAndTests(std::move(expression));
}

Result<ExpressionPtr> ExpressionParser::ParseFilter(ExpressionPtr input) {
  auto filter = MakeExpression(ExpressionKind::kFilter, stream_.current().position);
  if (stream_.At(TokenKind::kName)) {
    filter->filter = FindFilter(stream_.current().text);
    if (!filter->filter) {
      return stream_.NotSupported(StrCat("the filter '", stream_.current().text, "'"));
    }
  }
  COMET_ASSIGN_OR_RETURN(filter->name, stream_.TakeName("the name of a filter"));
  filter->operands.push_back(std::move(input));
  if (stream_.AtOperator("(")) COMET_RETURN_IF_ERROR(ParseArguments(*filter));
  return ExpressionPtr(std::move(filter));
}

Result<ExpressionPtr> ExpressionParser::ParseTest(ExpressionPtr input) {
  const Position position = stream_.current().position;
  const bool is_negated = stream_.SkipName("not");
  auto test = MakeExpression(ExpressionKind::kTest, position);
  if (stream_.At(TokenKind::kName)) {
    test->test = FindTypeTest(stream_.current().text);
    if (!test->test) {
      return stream_.NotSupported(StrCat("the test '", stream_.current().text, "'"));
    }
  }
  COMET_ASSIGN_OR_RETURN(test->name, stream_.TakeName("the name of a test"));
  test->operands.push_back(std::move(input));
  if (stream_.AtOperator("(")) {
    COMET_RETURN_IF_ERROR(ParseArguments(*test));
  } else if (AtTestArgument()) {
    if (stream_.AtName("is")) return stream_.Error("tests can't be chained with is");
    COMET_ASSIGN_OR_RETURN(ExpressionPtr argument, ParsePrimary());
    COMET_ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
    test->operands.push_back(std::move(argument));
  }
  if (!is_negated) return ExpressionPtr(std::move(test));
  auto negation = MakeExpression(ExpressionKind::kNot, position);
  negation->operands.push_back(std::move(test));
  return ExpressionPtr(std::move(negation));
}

// `x is divisibleby 3`: one argument may follow without parentheses.
bool ExpressionParser::AtTestArgument() const {
  switch (stream_.current().kind) {
    case TokenKind::kName:
      return !stream_.AtName("else") && !stream_.AtName("or") && !stream_.AtName("and");
    case TokenKind::kString:
    case TokenKind::kInteger:
    case TokenKind::kFloat: return true;
    case TokenKind::kOperator: return stream_.AtOperator("[") || stream_.AtOperator("{");
    default: return false;
  }
}

// Operands joined by a word are one node, so a long chain is not a deep tree.
Result<ExpressionPtr> ExpressionParser::ParseChain(Parse parse, std::string_view word,
                                                   ExpressionKind kind) {
  auto chain = MakeExpression(kind, stream_.current().position);
  COMET_ASSIGN_OR_RETURN(ExpressionPtr operand, (this->*parse)());
  while (stream_.SkipName(word)) {
    chain->operands.push_back(std::move(operand));
    COMET_ASSIGN_OR_RETURN(operand, (this->*parse)());
  }
  if (chain->operands.empty()) return operand;
  chain->operands.push_back(std::move(operand));
  return ExpressionPtr(std::move(chain));
}

Result<ExpressionPtr> ExpressionParser::ParseInfix(Parse parse,
                                                   std::initializer_list<Infix> infixes) {
  auto chain = MakeExpression(ExpressionKind::kArithmetic, stream_.current().position);
  COMET_ASSIGN_OR_RETURN(ExpressionPtr operand, (this->*parse)());
  while (true) {
    const Infix* taken = nullptr;
    for (const Infix& infix : infixes) {
      if (!taken && stream_.SkipOperator(infix.text)) taken = &infix;
    }
    if (!taken) break;
    chain->operands.push_back(std::move(operand));
    chain->operators.push_back(taken->op);
    COMET_ASSIGN_OR_RETURN(operand, (this->*parse)());
  }
  if (chain->operators.empty()) return operand;
  chain->operands.push_back(std::move(operand));
  return ExpressionPtr(std::move(chain));
}

}  // namespace comet::jinja
