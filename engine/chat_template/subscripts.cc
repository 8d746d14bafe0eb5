#include "engine/chat_template/subscripts.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "engine/chat_template/methods.h"
#include "engine/chat_template/python_text.h"
#include "engine/chat_template/unicode_text.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

std::optional<int64_t> NormalIndex(int64_t index, int64_t size) {
  if (index < 0) index += size;
  if (index < 0 || index >= size) return std::nullopt;
  return index;
}

Result<Value> ItemAt(Sandbox& sandbox, const Value& object, int64_t index) {
  const Value missing =
      Value::Undefined(StrCat(object.type_name(), " object has no element ", index));
  if (object.is(Kind::kList)) {
    const auto& items = object.list()->items;
    const auto normal = NormalIndex(index, static_cast<int64_t>(items.size()));
    return normal ? items[*normal] : missing;
  }
  const std::string& text = object.text();
  COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(text.size())));
  const auto normal = NormalIndex(index, NumCodePoints(text));
  if (!normal) return missing;
  const size_t pos = ByteOffset(text, *normal);
  return sandbox.NewString(text.substr(pos, CodePointBytes(text, pos)));
}

Value LoopAttribute(const Loop& loop, std::string_view name) {
  const auto length = static_cast<int64_t>(loop.items->items.size());
  if (name == "index") return Value(loop.index0 + 1);
  if (name == "index0") return Value(loop.index0);
  if (name == "revindex") return Value(length - loop.index0);
  if (name == "revindex0") return Value(length - loop.index0 - 1);
  if (name == "first") return Value(loop.index0 == 0);
  if (name == "last") return Value(loop.index0 == length - 1);
  if (name == "length") return Value(length);
  if (name == "depth") return Value(int64_t{1});
  if (name == "depth0") return Value(int64_t{0});
  const int64_t step = name == "previtem" ? -1 : (name == "nextitem" ? 1 : 0);
  const int64_t neighbour = loop.index0 + step;
  if (step != 0 && neighbour >= 0 && neighbour < length) return loop.items->items[neighbour];
  return Value::Undefined(StrCat("there is no ", name, " in this loop"));
}

std::string MissingAttribute(const Value& object, std::string_view name) {
  return StrCat("'", object.type_name(), object.is(Kind::kDict) ? " object" : "",
                "' has no attribute '", name, "'");
}

// What Python's slice.indices() computes.
struct SliceBounds {
  int64_t start;
  int64_t step;
  int64_t count;
};

Result<int64_t> BoundOf(const Value& bound, int64_t absent, int64_t min, int64_t max,
                        int64_t size) {
  if (bound.is(Kind::kUndefined) || bound.is(Kind::kNone)) return absent;
  if (!bound.is_integral()) {
    return InvalidArgument("slice indices must be integers or None");
  }
  int64_t value = bound.as_integer();
  if (value < 0) value += size;
  return std::clamp(value, min, max);
}

Result<SliceBounds> BoundsOf(const Value& start, const Value& stop, const Value& step,
                             int64_t size) {
  COMET_ASSIGN_OR_RETURN(const int64_t stride, BoundOf(step, 1, INT64_MIN, INT64_MAX, 0));
  if (stride == 0) return InvalidArgument("slice step cannot be zero");
  const bool is_forward = stride > 0;
  const int64_t min = is_forward ? 0 : -1;
  const int64_t max = is_forward ? size : size - 1;
  COMET_ASSIGN_OR_RETURN(const int64_t first,
                         BoundOf(start, is_forward ? min : max, min, max, size));
  COMET_ASSIGN_OR_RETURN(const int64_t last, BoundOf(stop, is_forward ? max : min, min, max, size));
  const int64_t span = is_forward ? last - first : first - last;
  // A stride beyond the size reaches one element at most.
  const int64_t width =
      std::min(stride < 0 ? (stride < -size ? size + 1 : -stride) : stride, size + 1);
  return SliceBounds{first, is_forward ? width : -width, span <= 0 ? 0 : (span - 1) / width + 1};
}

Result<Value> SliceText(Sandbox& sandbox, const std::string& text, const SliceBounds& bounds) {
  if (bounds.step == 1) {
    const size_t begin = ByteOffset(text, bounds.start);
    const size_t num_bytes = ByteOffset(std::string_view(text).substr(begin), bounds.count);
    return sandbox.NewString(text.substr(begin, num_bytes));
  }
  std::vector<uint32_t> offsets;
  for (size_t pos = 0; pos < text.size(); pos += CodePointBytes(text, pos)) {
    offsets.push_back(static_cast<uint32_t>(pos));
  }
  std::string taken;
  for (int64_t i = 0; i < bounds.count; ++i) {
    const size_t pos = offsets[bounds.start + i * bounds.step];
    taken += text.substr(pos, CodePointBytes(text, pos));
  }
  return sandbox.NewString(std::move(taken));
}

}  // namespace

Result<Value> GetAttribute(Sandbox& sandbox, const Value& object, std::string_view name) {
  if (object.is(Kind::kUndefined)) return InvalidArgument(object.what());
  if (HasMethod(object, name)) return sandbox.NewMethod(object, name);
  const Value* found = nullptr;
  if (object.is(Kind::kDict)) found = object.dict()->Find(name);
  if (object.is(Kind::kNamespace)) {
    COMET_RETURN_IF_ERROR(
        sandbox.Spend(static_cast<int64_t>(object.name_space()->attributes.size()) / 64));
    found = object.name_space()->Find(name);
  }
  if (object.is(Kind::kLoop)) return LoopAttribute(*object.loop(), name);
  return found ? *found : Value::Undefined(MissingAttribute(object, name));
}

Result<Value> GetItem(Sandbox& sandbox, const Value& object, const Value& index) {
  if (object.is(Kind::kUndefined)) return InvalidArgument(object.what());
  COMET_RETURN_IF_ERROR(sandbox.SpendKey(index));
  if (object.is(Kind::kDict)) {
    if (const Value* found = object.dict()->Find(index)) return *found;
  }
  if (object.is_sequence() && index.is_integral()) {
    return ItemAt(sandbox, object, index.as_integer());
  }
  if (index.is(Kind::kString)) return GetAttribute(sandbox, object, index.text());
  COMET_ASSIGN_OR_RETURN(const std::string index_text, ToRepr(sandbox, index));
  return Value::Undefined(StrCat(object.type_name(), " object has no element ", index_text));
}

Result<Value> Slice(Sandbox& sandbox, const Value& object, const Value& start, const Value& stop,
                    const Value& step) {
  if (object.is(Kind::kUndefined)) return InvalidArgument(object.what());
  if (!object.is_sequence()) {
    return Value::Undefined(StrCat("'", object.type_name(), "' object is not subscriptable"));
  }
  COMET_ASSIGN_OR_RETURN(const int64_t size, Length(sandbox, object));
  COMET_ASSIGN_OR_RETURN(const SliceBounds bounds, BoundsOf(start, stop, step, size));
  if (object.is(Kind::kString)) return SliceText(sandbox, object.text(), bounds);
  std::vector<Value> items;
  items.reserve(bounds.count);
  for (int64_t i = 0; i < bounds.count; ++i) {
    items.push_back(object.list()->items[bounds.start + i * bounds.step]);
  }
  return sandbox.NewList(std::move(items), object.list()->kind);
}

Result<int64_t> Length(Sandbox& sandbox, const Value& value) {
  if (value.is(Kind::kUndefined)) return int64_t{0};
  if (value.is(Kind::kString)) {
    COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(value.text().size())));
    return NumCodePoints(value.text());
  }
  if (value.is_sequence()) return static_cast<int64_t>(value.list()->items.size());
  if (value.is(Kind::kDict)) return static_cast<int64_t>(value.dict()->items.size());
  return InvalidArgument(StrCat("object of type '", value.type_name(), "' has no len()"));
}

Result<std::shared_ptr<List>> Iterate(Sandbox& sandbox, const Value& value) {
  if (value.is(Kind::kList)) {
    List& list = *value.list();
    if (list.kind != ListKind::kGenerator || !std::exchange(list.is_consumed, true)) {
      return value.list();
    }
  }
  std::vector<Value> items;
  if (value.is(Kind::kDict)) {
    for (const auto& [key, unused] : value.dict()->items) items.push_back(key);
  } else if (value.is(Kind::kString)) {
    const std::string& text = value.text();
    COMET_RETURN_IF_ERROR(sandbox.Spend(static_cast<int64_t>(text.size())));
    for (size_t pos = 0; pos < text.size();) {
      const size_t num_bytes = CodePointBytes(text, pos);
      COMET_ASSIGN_OR_RETURN(Value character, sandbox.NewString(text.substr(pos, num_bytes)));
      items.push_back(std::move(character));
      pos += num_bytes;
    }
  } else if (!value.is(Kind::kUndefined) && !value.is(Kind::kList)) {
    return InvalidArgument(StrCat("'", value.type_name(), "' object is not iterable"));
  }
  COMET_ASSIGN_OR_RETURN(const Value list, sandbox.NewList(std::move(items)));
  return list.list();
}

}  // namespace comet::jinja
