#include "engine/chat_template/token_stream.h"

#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

std::string Describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText: return "text";
    case TokenKind::kOutputBegin: return "'{{'";
    case TokenKind::kOutputEnd: return "'}}'";
    case TokenKind::kBlockBegin: return "'{%'";
    case TokenKind::kBlockEnd: return "'%}'";
    case TokenKind::kName:
    case TokenKind::kOperator:
    case TokenKind::kInteger:
    case TokenKind::kFloat: return StrCat("'", token.text, "'");
    case TokenKind::kString: return "a string";
    case TokenKind::kEnd: return "the end of the template";
  }
  return "";
}

}  // namespace

bool TokenStream::SkipOperator(std::string_view op) {
  if (!AtOperator(op)) return false;
  Advance();
  return true;
}

bool TokenStream::SkipName(std::string_view name) {
  if (!AtName(name)) return false;
  Advance();
  return true;
}

Status TokenStream::ExpectOperator(std::string_view op) {
  return SkipOperator(op) ? Status::Ok() : Unexpected(StrCat("'", op, "'"));
}

Status TokenStream::ExpectName(std::string_view name) {
  return SkipName(name) ? Status::Ok() : Unexpected(StrCat("'", name, "'"));
}

Status TokenStream::Expect(TokenKind kind, std::string_view what) {
  if (!At(kind)) return Unexpected(what);
  Advance();
  return Status::Ok();
}

Result<std::string> TokenStream::TakeName(std::string_view what) {
  if (!At(TokenKind::kName)) return Unexpected(what);
  std::string name = current().text;
  Advance();
  return name;
}

Status TokenStream::Error(std::string_view message) const {
  return SyntaxError(current().position, message);
}

Status TokenStream::Unexpected(std::string_view wanted) const {
  return Error(StrCat("unexpected ", Describe(current()), ", expected ", wanted));
}

Status TokenStream::NotSupported(std::string_view what) const {
  return Unimplemented(
      SyntaxError(current().position, StrCat(what, " is not supported")).message());
}

Status TokenStream::Nesting::status() const {
  if (stream_.depth_ <= stream_.depth_max_) return Status::Ok();
  return stream_.Error(StrCat("nested more than ", stream_.depth_max_, " deep"));
}

}  // namespace comet::jinja
