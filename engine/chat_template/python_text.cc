#include "engine/chat_template/python_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "engine/tokenizer/utf8.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

// Appends to a string while the sandbox allows it.
class Writer {
 public:
  explicit Writer(Sandbox& sandbox) : sandbox_(sandbox) {}

  Status Write(std::string_view text) {
    COMET_RETURN_IF_ERROR(sandbox_.SpendBytes(static_cast<int64_t>(text.size()) + 1));
    out_ += text;
    return sandbox_.CheckTextBytes(static_cast<int64_t>(out_.size()));
  }

  Sandbox& sandbox() { return sandbox_; }
  std::string Take() { return std::move(out_); }

 private:
  Sandbox& sandbox_;
  std::string out_;
};

void AppendHex(uint32_t value, int num_digits, std::string& out) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (int i = num_digits - 1; i >= 0; --i) out.push_back(kDigits[value >> (4 * i) & 0xF]);
}

// Close to str.isprintable(): control, format, private-use and separator characters that occur in
// real text.
bool IsPrintable(uint32_t code_point) {
  return !(code_point < 0x20 || (code_point >= 0x7F && code_point <= 0xA0) || code_point == 0xAD ||
           (code_point >= 0x2000 && code_point <= 0x200F) ||
           (code_point >= 0x2028 && code_point <= 0x202F) ||
           (code_point >= 0x205F && code_point <= 0x206F) || code_point == 0x3000 ||
           (code_point >= 0xE000 && code_point <= 0xF8FF) || code_point == 0xFEFF ||
           code_point >= 0xE0000);
}

void AppendReprChar(uint32_t code_point, std::string_view bytes, char quote, std::string& out) {
  if (code_point == static_cast<uint32_t>(quote) || code_point == '\\') {
    out.push_back('\\');
    out += bytes;
  } else if (code_point == '\n') {
    out += "\\n";
  } else if (code_point == '\r') {
    out += "\\r";
  } else if (code_point == '\t') {
    out += "\\t";
  } else if (IsPrintable(code_point)) {
    out += bytes;
  } else if (code_point < 0x100) {
    out += "\\x";
    AppendHex(code_point, 2, out);
  } else if (code_point < 0x10000) {
    out += "\\u";
    AppendHex(code_point, 4, out);
  } else {
    out += "\\U";
    AppendHex(code_point, 8, out);
  }
}

std::string StringRepr(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string out(1, quote);
  while (!text.empty()) {
    const Utf8Char next = ReadUtf8Char(text);
    AppendReprChar(next.code_point, text.substr(0, next.num_bytes), quote, out);
    text.remove_prefix(next.num_bytes);
  }
  out.push_back(quote);
  return out;
}

Status WriteRepr(Writer& writer, const Value& value);

Status WriteItems(Writer& writer, const std::vector<Value>& items) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) COMET_RETURN_IF_ERROR(writer.Write(", "));
    COMET_RETURN_IF_ERROR(WriteRepr(writer, items[i]));
  }
  return Status::Ok();
}

Status WriteListRepr(Writer& writer, const List& list) {
  switch (list.kind) {
    case ListKind::kGenerator: return writer.Write("<generator object>");
    case ListKind::kList:
      COMET_RETURN_IF_ERROR(writer.Write("["));
      COMET_RETURN_IF_ERROR(WriteItems(writer, list.items));
      return writer.Write("]");
    case ListKind::kTuple:
      COMET_RETURN_IF_ERROR(writer.Write("("));
      COMET_RETURN_IF_ERROR(WriteItems(writer, list.items));
      return writer.Write(list.items.size() == 1 ? ",)" : ")");
  }
  return Status::Ok();
}

Status WriteDictRepr(Writer& writer, const Dict& dict) {
  std::string_view separator = "{";
  for (const auto& [key, value] : dict.items) {
    COMET_RETURN_IF_ERROR(writer.Write(separator));
    COMET_RETURN_IF_ERROR(WriteRepr(writer, key));
    COMET_RETURN_IF_ERROR(writer.Write(": "));
    COMET_RETURN_IF_ERROR(WriteRepr(writer, value));
    separator = ", ";
  }
  return writer.Write(dict.items.empty() ? "{}" : "}");
}

Status WriteNamespaceRepr(Writer& writer, const Namespace& name_space) {
  std::string_view separator = "<Namespace {";
  for (const auto& [name, value] : name_space.attributes) {
    COMET_RETURN_IF_ERROR(writer.Write(separator));
    COMET_RETURN_IF_ERROR(writer.Write(StringRepr(name)));
    COMET_RETURN_IF_ERROR(writer.Write(": "));
    COMET_RETURN_IF_ERROR(WriteRepr(writer, value));
    separator = ", ";
  }
  return writer.Write(name_space.attributes.empty() ? "<Namespace {}>" : "}>");
}

Status WriteRepr(Writer& writer, const Value& value) {
  const Sandbox::Nesting nesting(writer.sandbox());
  COMET_RETURN_IF_ERROR(nesting.status());
  switch (value.kind()) {
    case Kind::kUndefined: return writer.Write("Undefined");
    case Kind::kNone: return writer.Write("None");
    case Kind::kBool: return writer.Write(value.boolean() ? "True" : "False");
    case Kind::kInt: return writer.Write(std::to_string(value.integer()));
    case Kind::kFloat: return writer.Write(FloatRepr(value.real()));
    case Kind::kString: return writer.Write(StringRepr(value.text()));
    case Kind::kList: return WriteListRepr(writer, *value.list());
    case Kind::kDict: return WriteDictRepr(writer, *value.dict());
    case Kind::kNamespace: return WriteNamespaceRepr(writer, *value.name_space());
    case Kind::kLoop:
      return writer.Write(StrCat("<LoopContext ", value.loop()->index0 + 1, "/",
                                 value.loop()->items->items.size(), ">"));
    case Kind::kCallable:
      return writer.Write(value.callable().macro
                              ? StrCat("<Macro '", value.callable().name, "'>")
                              : StrCat("<function ", value.callable().name, ">"));
  }
  return Status::Ok();
}

std::string JsonString(std::string_view text, bool ensures_ascii) {
  std::string out = "\"";
  while (!text.empty()) {
    const Utf8Char next = ReadUtf8Char(text);
    const uint32_t code_point = next.code_point;
    constexpr std::string_view kEscaped = "\"\\\n\r\t\b\f";
    constexpr std::string_view kLetters = "\"\\nrtbf";
    const size_t escape =
        code_point < 0x80 ? kEscaped.find(static_cast<char>(code_point)) : std::string_view::npos;
    if (escape != std::string_view::npos) {
      out.push_back('\\');
      out.push_back(kLetters[escape]);
    } else if (code_point < 0x20 || (ensures_ascii && code_point >= 0x7F && code_point < 0x10000 &&
                                     code_point != 0x7F)) {
      out += "\\u";
      AppendHex(code_point, 4, out);
    } else if (ensures_ascii && code_point >= 0x10000) {
      out += "\\u";
      AppendHex(0xD800 + ((code_point - 0x10000) >> 10), 4, out);
      out += "\\u";
      AppendHex(0xDC00 + ((code_point - 0x10000) & 0x3FF), 4, out);
    } else {
      out += text.substr(0, next.num_bytes);
    }
    text.remove_prefix(next.num_bytes);
  }
  out.push_back('"');
  return out;
}

std::string JsonFloat(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return FloatRepr(value);
}

class JsonWriter {
 public:
  JsonWriter(Sandbox& sandbox, const JsonStyle& style) : writer_(sandbox), style_(style) {}

  Status Write(const Value& value) {
    const Sandbox::Nesting nesting(writer_.sandbox());
    COMET_RETURN_IF_ERROR(nesting.status());
    switch (value.kind()) {
      case Kind::kNone: return writer_.Write("null");
      case Kind::kBool: return writer_.Write(value.boolean() ? "true" : "false");
      case Kind::kInt: return writer_.Write(std::to_string(value.integer()));
      case Kind::kFloat: return writer_.Write(JsonFloat(value.real()));
      case Kind::kString: return writer_.Write(JsonString(value.text(), style_.ensures_ascii));
      case Kind::kList:
        if (value.list()->kind == ListKind::kGenerator) break;
        return WriteList(value.list()->items);
      case Kind::kDict: return WriteDict(*value.dict());
      case Kind::kUndefined:
      case Kind::kNamespace:
      case Kind::kLoop:
      case Kind::kCallable: break;
    }
    return InvalidArgument(
        StrCat("Object of type ", value.type_name(), " is not JSON serializable"));
  }

  std::string Take() { return writer_.Take(); }

 private:
  Status WriteList(const std::vector<Value>& items) {
    if (items.empty()) return writer_.Write("[]");
    COMET_RETURN_IF_ERROR(Open("["));
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) COMET_RETURN_IF_ERROR(NextItem());
      COMET_RETURN_IF_ERROR(Write(items[i]));
    }
    return Close("]");
  }

  Status WriteDict(const Dict& dict) {
    if (dict.items.empty()) return writer_.Write("{}");
    std::vector<std::pair<std::string, const Value*>> items;
    for (const auto& [key, value] : dict.items) items.emplace_back(KeyText(key), &value);
    if (style_.sorts_keys) {
      std::stable_sort(items.begin(), items.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    COMET_RETURN_IF_ERROR(Open("{"));
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) COMET_RETURN_IF_ERROR(NextItem());
      COMET_RETURN_IF_ERROR(writer_.Write(JsonString(items[i].first, style_.ensures_ascii)));
      COMET_RETURN_IF_ERROR(writer_.Write(style_.key_separator));
      COMET_RETURN_IF_ERROR(Write(*items[i].second));
    }
    return Close("}");
  }

  static std::string KeyText(const Value& key) {
    if (key.is(Kind::kString)) return key.text();
    if (key.is(Kind::kBool)) return key.boolean() ? "true" : "false";
    if (key.is(Kind::kInt)) return std::to_string(key.integer());
    if (key.is(Kind::kFloat)) return JsonFloat(key.real());
    return "null";
  }

  Status Open(std::string_view bracket) {
    ++depth_;
    COMET_RETURN_IF_ERROR(writer_.Write(bracket));
    return NewLine();
  }

  Status NextItem() {
    COMET_RETURN_IF_ERROR(writer_.Write(style_.item_separator));
    return NewLine();
  }

  Status Close(std::string_view bracket) {
    --depth_;
    COMET_RETURN_IF_ERROR(NewLine());
    return writer_.Write(bracket);
  }

  Status NewLine() {
    if (!style_.has_indent) return Status::Ok();
    COMET_RETURN_IF_ERROR(writer_.Write("\n"));
    for (int i = 0; i < depth_; ++i) COMET_RETURN_IF_ERROR(writer_.Write(style_.indent));
    return Status::Ok();
  }

  Writer writer_;
  const JsonStyle& style_;
  int depth_ = 0;
};

}  // namespace

Result<Value> ToText(Sandbox& sandbox, const Value& value) {
  if (value.is(Kind::kString)) return value;
  if (value.is(Kind::kUndefined)) return sandbox.NewString("");
  COMET_ASSIGN_OR_RETURN(std::string text, ToRepr(sandbox, value));
  return sandbox.NewString(std::move(text));
}

Result<std::string> ToRepr(Sandbox& sandbox, const Value& value) {
  Writer writer(sandbox);
  COMET_RETURN_IF_ERROR(WriteRepr(writer, value));
  return writer.Take();
}

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 64> buffer{};
  const double magnitude = std::abs(value);
  // Python changes to exponents below 1e-4 and from 1e16 on.
  const bool is_scientific = magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16);
  const auto format = is_scientific ? std::chars_format::scientific : std::chars_format::fixed;
  const auto [end, error] =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format);
  std::string text(buffer.data(), end);
  if (!is_scientific && text.find('.') == std::string::npos) text += ".0";
  return text;
}

Result<std::string> ToJson(Sandbox& sandbox, const Value& value, const JsonStyle& style) {
  JsonWriter writer(sandbox, style);
  COMET_RETURN_IF_ERROR(writer.Write(value));
  return writer.Take();
}

}  // namespace comet::jinja
