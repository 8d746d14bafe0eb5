#include "engine/chat_template/statement_parser.h"

#include <algorithm>
#include <utility>

#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

// Tags of Jinja that no chat template we know uses.
constexpr std::string_view kTagsLeftOut[] = {"autoescape", "block",  "call",    "do",   "extends",
                                             "from",       "import", "include", "trans"};

std::unique_ptr<Statement> MakeStatement(StatementKind kind, Position position) {
  auto statement = std::make_unique<Statement>();
  statement->kind = kind;
  statement->position = position;
  return statement;
}

}  // namespace

Result<Body> StatementParser::ParseTemplate() {
  COMET_ASSIGN_OR_RETURN(Body body, ParseBody({}));
  if (!stream_.At(TokenKind::kEnd)) {
    return stream_.Error(StrCat("unexpected tag '", stream_.current().text, "'"));
  }
  return body;
}

Result<Body> StatementParser::ParseBody(EndTags end_tags) {
  const TokenStream::Nesting nesting(stream_);
  COMET_RETURN_IF_ERROR(nesting.status());
  Body body;
  while (!stream_.At(TokenKind::kEnd)) {
    StatementPtr statement;
    if (stream_.At(TokenKind::kText)) {
      statement = MakeStatement(StatementKind::kText, stream_.current().position);
      statement->text = stream_.current().text;
      stream_.Advance();
    } else if (stream_.At(TokenKind::kOutputBegin)) {
      COMET_ASSIGN_OR_RETURN(statement, ParseOutput());
    } else {
      COMET_RETURN_IF_ERROR(stream_.Expect(TokenKind::kBlockBegin, "a tag"));
      const auto ends = [&](std::string_view name) { return stream_.AtName(name); };
      if (std::any_of(end_tags.begin(), end_tags.end(), ends)) return body;
      COMET_ASSIGN_OR_RETURN(statement, ParseTag());
    }
    body.push_back(std::move(statement));
  }
  if (end_tags.size() > 0) {
    return stream_.Unexpected(StrCat("{% ", *(end_tags.end() - 1), " %}"));
  }
  return body;
}

Result<StatementParser::StatementPtr> StatementParser::ParseTag() {
  if (stream_.AtName("if")) return ParseIf();
  if (stream_.AtName("for")) return ParseFor();
  if (stream_.AtName("set")) return ParseSet();
  if (stream_.AtName("macro")) return ParseMacro();
  if (stream_.AtName("filter")) return ParseFilterBlock();
  if (stream_.AtName("with")) return ParseWith();
  if (stream_.AtName("generation")) return ParseGeneration();
  if (stream_.AtName("break")) return ParseJump(StatementKind::kBreak);
  if (stream_.AtName("continue")) return ParseJump(StatementKind::kContinue);
  if (!stream_.At(TokenKind::kName)) return stream_.Unexpected("the name of a tag");
  const std::string& name = stream_.current().text;
  for (const std::string_view left_out : kTagsLeftOut) {
    if (name == left_out) return stream_.NotSupported(StrCat("the tag '", name, "'"));
  }
  return stream_.Error(StrCat("unexpected tag '", name, "'"));
}

Result<StatementParser::StatementPtr> StatementParser::ParseOutput() {
  StatementPtr output = MakeStatement(StatementKind::kOutput, stream_.current().position);
  stream_.Advance();
  COMET_ASSIGN_OR_RETURN(ExpressionPtr expression, expressions_.ParseTuple());
  output->expressions.push_back(std::move(expression));
  COMET_RETURN_IF_ERROR(stream_.Expect(TokenKind::kOutputEnd, "'}}'"));
  return output;
}

Result<StatementParser::StatementPtr> StatementParser::ParseIf() {
  StatementPtr statement = MakeStatement(StatementKind::kIf, stream_.current().position);
  do {
    stream_.Advance();  // `if` or `elif`.
    COMET_ASSIGN_OR_RETURN(ExpressionPtr condition, expressions_.ParseTuple());
    statement->expressions.push_back(std::move(condition));
    COMET_RETURN_IF_ERROR(ExpectBlockEnd());
    COMET_ASSIGN_OR_RETURN(Body body, ParseBody({"elif", "else", "endif"}));
    statement->bodies.push_back(std::move(body));
  } while (stream_.AtName("elif"));
  if (stream_.SkipName("else")) {
    COMET_RETURN_IF_ERROR(ParseBlockBody(*statement, "endif"));
    return statement;
  }
  COMET_RETURN_IF_ERROR(stream_.ExpectName("endif"));
  COMET_RETURN_IF_ERROR(ExpectBlockEnd());
  return statement;
}

Result<StatementParser::StatementPtr> StatementParser::ParseFor() {
  StatementPtr statement = MakeStatement(StatementKind::kFor, stream_.current().position);
  stream_.Advance();
  COMET_RETURN_IF_ERROR(ParseForTargets(*statement));
  COMET_RETURN_IF_ERROR(stream_.ExpectName("in"));
  COMET_ASSIGN_OR_RETURN(ExpressionPtr items,
                         expressions_.ParseTuple(/*without_conditional=*/true));
  ExpressionPtr condition;
  if (stream_.SkipName("if")) {
    COMET_ASSIGN_OR_RETURN(condition, expressions_.ParseExpression());
  }
  if (stream_.AtName("recursive")) return stream_.NotSupported("a recursive for");
  COMET_RETURN_IF_ERROR(ExpectBlockEnd());
  statement->expressions.push_back(std::move(items));
  statement->expressions.push_back(std::move(condition));

  ++num_open_loops_;
  Result<Body> body = ParseBody({"else", "endfor"});
  --num_open_loops_;
  COMET_RETURN_IF_ERROR(body.status());
  statement->bodies.push_back(std::move(*body));
  if (stream_.SkipName("else")) {
    COMET_RETURN_IF_ERROR(ParseBlockBody(*statement, "endfor"));
    return statement;
  }
  COMET_RETURN_IF_ERROR(stream_.ExpectName("endfor"));
  COMET_RETURN_IF_ERROR(ExpectBlockEnd());
  return statement;
}

// `a`, `a, b` or `(a, b)`.
Status StatementParser::ParseForTargets(Statement& statement) {
  const bool has_parentheses = stream_.SkipOperator("(");
  do {
    if (stream_.AtOperator("(")) return stream_.NotSupported("a nested loop target");
    COMET_ASSIGN_OR_RETURN(std::string target, stream_.TakeName("a loop variable"));
    statement.targets.push_back(std::move(target));
    if (!stream_.SkipOperator(",")) break;
    statement.unpacks = true;
  } while (!stream_.AtName("in") && !stream_.AtOperator(")"));
  return has_parentheses ? stream_.ExpectOperator(")") : Status::Ok();
}

Result<StatementParser::StatementPtr> StatementParser::ParseSet() {
  StatementPtr statement = MakeStatement(StatementKind::kSet, stream_.current().position);
  stream_.Advance();
  COMET_RETURN_IF_ERROR(ParseSetTargets(*statement));
  if (stream_.SkipOperator("=")) {
    COMET_ASSIGN_OR_RETURN(ExpressionPtr value, expressions_.ParseTuple());
    statement->expressions.push_back(std::move(value));
    COMET_RETURN_IF_ERROR(ExpectBlockEnd());
    return statement;
  }
  if (statement->unpacks) return stream_.Unexpected("'='");
  statement->kind = StatementKind::kSetBlock;
  ExpressionPtr filters;
  if (stream_.SkipOperator("|")) {
    COMET_ASSIGN_OR_RETURN(filters, expressions_.ParseFiltersOfBlock());
  }
  statement->expressions.push_back(std::move(filters));
  COMET_RETURN_IF_ERROR(ParseBlockBody(*statement, "endset"));
  return statement;
}

// `a`, `a.b` of a namespace, or `a, b`.
Status StatementParser::ParseSetTargets(Statement& statement) {
  do {
    COMET_ASSIGN_OR_RETURN(std::string target, stream_.TakeName("a variable"));
    statement.targets.push_back(std::move(target));
    if (statement.targets.size() == 1 && stream_.SkipOperator(".")) {
      statement.has_attribute = true;
      COMET_ASSIGN_OR_RETURN(statement.text, stream_.TakeName("an attribute"));
      return Status::Ok();
    }
    if (!stream_.SkipOperator(",")) break;
    statement.unpacks = true;
  } while (!stream_.AtOperator("="));
  return Status::Ok();
}

Result<StatementParser::StatementPtr> StatementParser::ParseMacro() {
  StatementPtr macro = MakeStatement(StatementKind::kMacro, stream_.current().position);
  stream_.Advance();
  COMET_ASSIGN_OR_RETURN(macro->text, stream_.TakeName("the name of the macro"));
  COMET_RETURN_IF_ERROR(ParseParameters(*macro));
  // A break in a macro has no loop to leave.
  const int num_open_loops = std::exchange(num_open_loops_, 0);
  const Status status = ParseBlockBody(*macro, "endmacro");
  num_open_loops_ = num_open_loops;
  COMET_RETURN_IF_ERROR(status);
  return macro;
}

Status StatementParser::ParseParameters(Statement& macro) {
  COMET_RETURN_IF_ERROR(stream_.ExpectOperator("("));
  while (!stream_.AtOperator(")")) {
    COMET_ASSIGN_OR_RETURN(std::string parameter, stream_.TakeName("a parameter"));
    macro.targets.push_back(std::move(parameter));
    if (stream_.SkipOperator("=")) {
      COMET_ASSIGN_OR_RETURN(ExpressionPtr value, expressions_.ParseExpression());
      macro.expressions.push_back(std::move(value));
    } else if (!macro.expressions.empty()) {
      return stream_.Error("a parameter without default follows one with a default");
    }
    if (!stream_.AtOperator(")")) COMET_RETURN_IF_ERROR(stream_.ExpectOperator(","));
  }
  stream_.Advance();
  return Status::Ok();
}

Result<StatementParser::StatementPtr> StatementParser::ParseFilterBlock() {
  StatementPtr statement = MakeStatement(StatementKind::kFilterBlock, stream_.current().position);
  stream_.Advance();
  COMET_ASSIGN_OR_RETURN(ExpressionPtr filters, expressions_.ParseFiltersOfBlock());
  statement->expressions.push_back(std::move(filters));
  COMET_RETURN_IF_ERROR(ParseBlockBody(*statement, "endfilter"));
  return statement;
}

Result<StatementParser::StatementPtr> StatementParser::ParseWith() {
  StatementPtr statement = MakeStatement(StatementKind::kWith, stream_.current().position);
  stream_.Advance();
  while (!stream_.At(TokenKind::kBlockEnd)) {
    if (!statement->targets.empty()) COMET_RETURN_IF_ERROR(stream_.ExpectOperator(","));
    COMET_ASSIGN_OR_RETURN(std::string target, stream_.TakeName("a variable"));
    statement->targets.push_back(std::move(target));
    COMET_RETURN_IF_ERROR(stream_.ExpectOperator("="));
    COMET_ASSIGN_OR_RETURN(ExpressionPtr value, expressions_.ParseExpression());
    statement->expressions.push_back(std::move(value));
  }
  COMET_RETURN_IF_ERROR(ParseBlockBody(*statement, "endwith"));
  return statement;
}

// Marks what the assistant says, for training; it changes nothing in the text.
Result<StatementParser::StatementPtr> StatementParser::ParseGeneration() {
  StatementPtr statement = MakeStatement(StatementKind::kGroup, stream_.current().position);
  stream_.Advance();
  COMET_RETURN_IF_ERROR(ParseBlockBody(*statement, "endgeneration"));
  return statement;
}

Result<StatementParser::StatementPtr> StatementParser::ParseJump(StatementKind kind) {
  StatementPtr statement = MakeStatement(kind, stream_.current().position);
  if (num_open_loops_ == 0) return stream_.Error("break and continue belong inside a for");
  stream_.Advance();
  COMET_RETURN_IF_ERROR(ExpectBlockEnd());
  return statement;
}

Status StatementParser::ParseBlockBody(Statement& statement, std::string_view end_tag) {
  COMET_RETURN_IF_ERROR(ExpectBlockEnd());
  COMET_ASSIGN_OR_RETURN(Body body, ParseBody({end_tag}));
  statement.bodies.push_back(std::move(body));
  COMET_RETURN_IF_ERROR(stream_.ExpectName(end_tag));
  return ExpectBlockEnd();
}

}  // namespace comet::jinja
