#pragma once

#include <initializer_list>
#include <memory>
#include <string_view>

#include "engine/chat_template/ast.h"
#include "engine/chat_template/expression_parser.h"
#include "engine/chat_template/token_stream.h"

namespace comet::jinja {

// Parses the statements of a template. Errors of all: kInvalidArgument with line and column;
// kUnimplemented for a tag outside the subset.
class StatementParser {
 public:
  explicit StatementParser(TokenStream& stream) : stream_(stream), expressions_(stream) {}

  // Up to the end of the template.
  Result<Body> ParseTemplate();

 private:
  using StatementPtr = std::unique_ptr<Statement>;
  using EndTags = std::initializer_list<std::string_view>;

  // Up to, and not including, a block tag of one of these names, whose kBlockBegin is taken.
  Result<Body> ParseBody(EndTags end_tags);
  Result<StatementPtr> ParseTag();
  Result<StatementPtr> ParseOutput();
  Result<StatementPtr> ParseIf();
  Result<StatementPtr> ParseFor();
  Result<StatementPtr> ParseSet();
  Result<StatementPtr> ParseMacro();
  Result<StatementPtr> ParseFilterBlock();
  Result<StatementPtr> ParseWith();
  Result<StatementPtr> ParseGeneration();
  Result<StatementPtr> ParseJump(StatementKind kind);

  Status ParseForTargets(Statement& statement);
  Status ParseSetTargets(Statement& statement);
  Status ParseParameters(Statement& macro);
  // The body after a tag's `%}`, up to and with the end tag.
  Status ParseBlockBody(Statement& statement, std::string_view end_tag);
  Status ExpectBlockEnd() { return stream_.Expect(TokenKind::kBlockEnd, "'%}'"); }

  TokenStream& stream_;
  ExpressionParser expressions_;
  int num_open_loops_ = 0;
};

}  // namespace comet::jinja
