#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "engine/chat_template/lexer.h"
#include "kernels/base/status.h"

namespace comet::jinja {

// A parser's place among the tokens, and how deep it is nested.
class TokenStream {
 public:
  TokenStream(std::vector<Token> tokens, int depth_max)
      : tokens_(std::move(tokens)), depth_max_(depth_max) {}

  // Stays at kEnd.
  const Token& current() const { return tokens_[idx_]; }
  const Token& next() const { return tokens_[idx_ + 1 < tokens_.size() ? idx_ + 1 : idx_]; }
  void Advance() {
    if (idx_ + 1 < tokens_.size()) ++idx_;
  }

  bool At(TokenKind kind) const { return current().kind == kind; }
  bool AtOperator(std::string_view op) const {
    return At(TokenKind::kOperator) && current().text == op;
  }
  bool AtName(std::string_view name) const {
    return At(TokenKind::kName) && current().text == name;
  }

  bool SkipOperator(std::string_view op);
  bool SkipName(std::string_view name);

  // Errors of all: kInvalidArgument with line and column.
  Status ExpectOperator(std::string_view op);
  Status ExpectName(std::string_view name);
  Status Expect(TokenKind kind, std::string_view what);
  Result<std::string> TakeName(std::string_view what);

  // `message` at the current token.
  Status Error(std::string_view message) const;
  // The current token is not what the grammar wants.
  Status Unexpected(std::string_view wanted) const;
  // `what` is Jinja, but not of the subset.
  Status NotSupported(std::string_view what) const;

  // One level of nesting, for as long as it lives.
  class Nesting {
   public:
    explicit Nesting(TokenStream& stream) : stream_(stream) { ++stream_.depth_; }
    ~Nesting() { --stream_.depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

    Status status() const;

   private:
    TokenStream& stream_;
  };

  int depth_max() const { return depth_max_; }

 private:
  std::vector<Token> tokens_;
  size_t idx_ = 0;
  int depth_ = 0;
  int depth_max_;
};

}  // namespace comet::jinja
