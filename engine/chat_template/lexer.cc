#include "engine/chat_template/lexer.h"

#include <algorithm>
#include <charconv>

#include "engine/chat_template/string_literal.h"
#include "engine/chat_template/unicode_text.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

constexpr std::string_view kLongOperators[] = {"//", "**", "==", "!=", "<=", ">="};
constexpr std::string_view kShortOperators = "+-/*%~[](){}<>=.:|,;";

bool IsDigitByte(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<uint8_t>(c) >= 0x80;
}
bool IsNameByte(char c) { return IsNameStart(c) || IsDigitByte(c); }

// Newlines as \n, and without one at the end.
std::string NormalizeNewlines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    const bool is_carriage_return = source[i] == '\r';
    if (is_carriage_return && i + 1 < source.size() && source[i + 1] == '\n') continue;
    text.push_back(is_carriage_return ? '\n' : source[i]);
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  Result<std::vector<Token>> Run() {
    while (pos_ < source_.size()) COMET_RETURN_IF_ERROR(ReadTextAndTag());
    Add(TokenKind::kEnd, pos_);
    return std::move(tokens_);
  }

 private:
  std::string_view Rest() const { return source_.substr(pos_); }
  bool Skip(std::string_view wanted) {
    if (!Rest().starts_with(wanted)) return false;
    pos_ += wanted.size();
    return true;
  }
  void SkipSpace() { pos_ = source_.size() - Strip(Rest(), Ends::kLeft).size(); }

  // Positions are asked for in ascending order, so the source is scanned once.
  Position PositionOf(size_t pos) {
    for (; scanned_ < pos; ++scanned_) {
      const auto byte = static_cast<uint8_t>(source_[scanned_]);
      if (byte == '\n') {
        position_ = {position_.line + 1, 1};
      } else if ((byte & 0xC0) != 0x80) {
        ++position_.column;
      }
    }
    return position_;
  }

  Token& Add(TokenKind kind, size_t pos, std::string_view text = {}) {
    Token& token = tokens_.emplace_back();
    token.kind = kind;
    token.position = PositionOf(pos);
    token.text = text;
    return token;
  }

  Status ErrorAt(size_t pos, std::string_view message) {
    return SyntaxError(PositionOf(pos), message);
  }

  // The text up to the next tag, and the tag.
  Status ReadTextAndTag() {
    const size_t begin = pos_;
    const size_t tag = NextTag(pos_);
    if (tag == std::string_view::npos) {
      Add(TokenKind::kText, begin, Rest());
      pos_ = source_.size();
      return Status::Ok();
    }
    const char kind = source_[tag + 1];
    pos_ = tag + 2;
    const char sign = ReadSign();
    const std::string_view text = source_.substr(begin, tag - begin);
    AddText(begin, StripBeforeTag(text, sign, kind));
    if (kind == '#') return SkipComment(tag);
    if (kind == '%' && SkipRawBegin()) return ReadRaw(tag);
    return ReadTag(tag, kind == '%');
  }

  size_t NextTag(size_t from) const {
    for (size_t i = source_.find('{', from); i != std::string_view::npos;
         i = source_.find('{', i + 1)) {
      if (i + 1 < source_.size() &&
          (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#')) {
        return i;
      }
    }
    return std::string_view::npos;
  }

  char ReadSign() {
    if (Skip("-")) return '-';
    return Skip("+") ? '+' : '\0';
  }

  void AddText(size_t pos, std::string_view text) {
    if (!text.empty()) Add(TokenKind::kText, pos, text);
  }

  // `-` takes all white space before the tag. Otherwise lstrip_blocks takes what is between the
  // start of the line and a tag that is not an output.
  std::string_view StripBeforeTag(std::string_view text, char sign, char kind) const {
    if (sign == '-') return Strip(text, Ends::kRight);
    if (sign == '+' || kind == '{') return text;
    const size_t newline = text.rfind('\n');
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    const bool starts_line = line > 0 || is_line_start_;
    const bool is_blank = Strip(text.substr(line), Ends::kLeft).empty();
    return starts_line && is_blank ? text.substr(0, line) : text;
  }

  // Behind a tag: `-` takes all white space, trim_blocks one newline unless `+` stood there.
  void SkipAfterTag(char sign, bool trims_newline) {
    if (sign == '-') SkipSpace();
    if (sign == '\0' && trims_newline) Skip("\n");
    is_line_start_ = pos_ > 0 && source_[pos_ - 1] == '\n';
  }

  Status SkipComment(size_t tag) {
    const size_t end = source_.find("#}", pos_);
    if (end == std::string_view::npos) return ErrorAt(tag, "the comment is not closed by #}");
    const char last = end > pos_ ? source_[end - 1] : '\0';
    pos_ = end + 2;
    SkipAfterTag(last == '-' || last == '+' ? last : '\0', /*trims_newline=*/true);
    return Status::Ok();
  }

  // Past `raw %}`, if that stands here; the newline behind it stays.
  bool SkipRawBegin() {
    const size_t begin = pos_;
    SkipSpace();
    if (Skip("raw")) {
      SkipSpace();
      if (Skip("-%}")) {
        SkipSpace();
        return true;
      }
      if (Skip("%}")) return true;
    }
    pos_ = begin;
    return false;
  }

  Status ReadRaw(size_t tag) {
    const size_t begin = pos_;
    is_line_start_ = source_[pos_ - 1] == '\n';
    for (size_t end = source_.find("{%", pos_); end != std::string_view::npos;
         end = source_.find("{%", end + 1)) {
      pos_ = end + 2;
      const char begin_sign = ReadSign();
      SkipSpace();
      if (!Skip("endraw")) continue;
      SkipSpace();
      const char end_sign = ReadSign();
      if (!Skip("%}")) continue;
      const std::string_view text = source_.substr(begin, end - begin);
      AddText(begin, StripBeforeTag(text, begin_sign, '%'));
      SkipAfterTag(end_sign, /*trims_newline=*/true);
      return Status::Ok();
    }
    return ErrorAt(tag, "the raw block is not closed by {% endraw %}");
  }

  Status ReadTag(size_t tag, bool is_block) {
    Add(is_block ? TokenKind::kBlockBegin : TokenKind::kOutputBegin, tag);
    std::string open_brackets;
    while (true) {
      SkipSpace();
      if (pos_ == source_.size()) {
        return ErrorAt(tag,
                       is_block ? "the tag is not closed by %}" : "the tag is not closed by }}");
      }
      if (open_brackets.empty() && SkipTagEnd(is_block)) return Status::Ok();
      COMET_RETURN_IF_ERROR(ReadToken(open_brackets));
    }
  }

  bool SkipTagEnd(bool is_block) {
    const size_t begin = pos_;
    const std::string_view end = is_block ? "%}" : "}}";
    const char sign =
        Rest().starts_with('-') || (is_block && Rest().starts_with('+')) ? ReadSign() : '\0';
    if (!Skip(end)) {
      pos_ = begin;
      return false;
    }
    Add(is_block ? TokenKind::kBlockEnd : TokenKind::kOutputEnd, begin);
    SkipAfterTag(sign, /*trims_newline=*/is_block);
    return true;
  }

  Status ReadToken(std::string& open_brackets) {
    const char c = source_[pos_];
    if (IsDigitByte(c)) return ReadNumber();
    if (IsNameStart(c)) {
      const size_t begin = pos_;
      while (pos_ < source_.size() && IsNameByte(source_[pos_])) ++pos_;
      Add(TokenKind::kName, begin, source_.substr(begin, pos_ - begin));
      return Status::Ok();
    }
    if (c == '\'' || c == '"') return ReadString(c);
    return ReadOperator(open_brackets);
  }

  // Digits, with single underscores between them.
  size_t DigitsEnd(size_t pos) const {
    while (pos < source_.size() &&
           (IsDigitByte(source_[pos]) ||
            (source_[pos] == '_' && pos + 1 < source_.size() && IsDigitByte(source_[pos + 1])))) {
      ++pos;
    }
    return pos;
  }

  bool HasDigit(size_t pos) const { return pos < source_.size() && IsDigitByte(source_[pos]); }

  Status ReadNumber() {
    const size_t begin = pos_;
    if (const int base = BaseOf(Rest()); base != 10) return ReadBased(base);
    size_t end = DigitsEnd(pos_);
    bool is_float = false;
    // `1.x` is an attribute of 1, and `x.1.2` two of x.
    const bool follows_dot = begin > 0 && source_[begin - 1] == '.';
    if (!follows_dot && end < source_.size() && source_[end] == '.' && HasDigit(end + 1)) {
      is_float = true;
      end = DigitsEnd(end + 1);
    }
    if (!follows_dot && end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      const size_t sign_bytes =
          end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-') ? 1 : 0;
      if (HasDigit(end + 1 + sign_bytes)) {
        is_float = true;
        end = DigitsEnd(end + 1 + sign_bytes);
      }
    }
    pos_ = end;
    return AddNumber(begin, source_.substr(begin, end - begin), is_float, 10);
  }

  static int BaseOf(std::string_view text) {
    if (text.size() < 3 || text[0] != '0') return 10;
    switch (text[1] | 0x20) {
      case 'b': return 2;
      case 'o': return 8;
      case 'x': return 16;
      default: return 10;
    }
  }

  Status ReadBased(int base) {
    const size_t begin = pos_;
    pos_ += 2;
    while (pos_ < source_.size() && IsNameByte(source_[pos_])) ++pos_;
    return AddNumber(begin, source_.substr(begin + 2, pos_ - begin - 2), false, base);
  }

  Status AddNumber(size_t begin, std::string_view text, bool is_float, int base) {
    std::string digits(text);
    digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
    const char* end = digits.data() + digits.size();
    Token& token = Add(is_float ? TokenKind::kFloat : TokenKind::kInteger, begin, text);
    const auto [parsed, error] = is_float
                                     ? std::from_chars(digits.data(), end, token.real)
                                     : std::from_chars(digits.data(), end, token.integer, base);
    // Python forbids 007, which once was octal.
    const bool is_octal = !is_float && base == 10 && digits[0] == '0' && token.integer != 0;
    if (error == std::errc() && parsed == end && !is_octal) return Status::Ok();
    return SyntaxError(token.position, StrCat("the number ", text, " can't be read"));
  }

  Status ReadString(char quote) {
    const size_t begin = pos_;
    for (++pos_; pos_ < source_.size() && source_[pos_] != quote; ++pos_) {
      if (source_[pos_] == '\\') ++pos_;
    }
    if (pos_ >= source_.size()) return ErrorAt(begin, "the string is not closed");
    ++pos_;
    const Result<std::string> value = Unescape(source_.substr(begin + 1, pos_ - begin - 2));
    if (!value.ok()) return ErrorAt(begin, value.status().message());
    Add(TokenKind::kString, begin, *value);
    return Status::Ok();
  }

  Status ReadOperator(std::string& open_brackets) {
    const size_t begin = pos_;
    for (const std::string_view op : kLongOperators) {
      if (!Skip(op)) continue;
      Add(TokenKind::kOperator, begin, op);
      return Status::Ok();
    }
    const char c = source_[pos_];
    if (kShortOperators.find(c) == std::string_view::npos) {
      return ErrorAt(begin, StrCat("unexpected character '", c, "'"));
    }
    constexpr std::string_view kOpening = "([{";
    constexpr std::string_view kClosing = ")]}";
    if (kOpening.find(c) != std::string_view::npos) open_brackets.push_back(c);
    if (const size_t kind = kClosing.find(c); kind != std::string_view::npos) {
      if (open_brackets.empty() || open_brackets.back() != kOpening[kind]) {
        return ErrorAt(begin, StrCat("unexpected '", c, "'"));
      }
      open_brackets.pop_back();
    }
    ++pos_;
    Add(TokenKind::kOperator, begin, source_.substr(begin, 1));
    return Status::Ok();
  }

  const std::string_view source_;
  size_t pos_ = 0;
  bool is_line_start_ = true;  // What was read last ended a line.
  size_t scanned_ = 0;
  Position position_;  // Of scanned_.
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> Tokenize(std::string_view source) {
  const std::string text = NormalizeNewlines(source);
  return Lexer(text).Run();
}

Status SyntaxError(Position position, std::string_view message) {
  return InvalidArgument(
      StrCat("chat template: line ", position.line, ", column ", position.column, ": ", message));
}

}  // namespace comet::jinja
