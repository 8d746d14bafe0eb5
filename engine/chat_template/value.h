#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/base/status.h"

namespace comet::jinja {

class Sandbox;
class Value;
struct Callable;
struct Dict;
struct List;
struct Loop;
struct Namespace;
struct Text;

// The order of Value's alternatives.
enum class Kind {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kDict,
  kNamespace,
  kLoop,
  kCallable,
};

// A value of the template language, with Python's semantics: strings are immutable, containers are
// shared by reference. Cheap to copy. Containers are made by a Sandbox, which counts their memory
// and outlives them; one rendering's values stay in its thread.
class Value {
 public:
  Value() = default;  // Undefined.
  explicit Value(bool value) : state_(value) {}
  explicit Value(int64_t value) : state_(value) {}
  explicit Value(double value) : state_(value) {}
  explicit Value(std::shared_ptr<const Text> text) : state_(std::move(text)) {}
  explicit Value(std::shared_ptr<List> list) : state_(std::move(list)) {}
  explicit Value(std::shared_ptr<Dict> dict) : state_(std::move(dict)) {}
  explicit Value(Namespace* name_space) : state_(name_space) {}
  explicit Value(std::shared_ptr<Loop> loop) : state_(std::move(loop)) {}
  explicit Value(std::shared_ptr<const Callable> callable) : state_(std::move(callable)) {}
  explicit Value(const void*) = delete;  // A string literal would become a bool.

  static Value None();
  // `what` is the message of the error that using the value gives: "'tools' is undefined".
  static Value Undefined(std::string what);
  // A string that no sandbox counts: constants of a template.
  static Value Constant(std::string text);

  Kind kind() const { return static_cast<Kind>(state_.index()); }
  bool is(Kind wanted) const { return kind() == wanted; }

  // Each may be called on its own kind only.
  bool boolean() const { return std::get<bool>(state_); }
  int64_t integer() const { return std::get<int64_t>(state_); }
  double real() const { return std::get<double>(state_); }
  const std::string& text() const;
  const std::shared_ptr<List>& list() const { return std::get<std::shared_ptr<List>>(state_); }
  const std::shared_ptr<Dict>& dict() const { return std::get<std::shared_ptr<Dict>>(state_); }
  Namespace* name_space() const { return std::get<Namespace*>(state_); }
  const std::shared_ptr<Loop>& loop() const { return std::get<std::shared_ptr<Loop>>(state_); }
  const Callable& callable() const { return *std::get<std::shared_ptr<const Callable>>(state_); }
  // Of kUndefined: the message.
  std::string what() const;

  // Integers and booleans, which Python counts among them.
  bool is_integral() const { return is(Kind::kBool) || is(Kind::kInt); }
  bool is_number() const { return is_integral() || is(Kind::kFloat); }
  int64_t as_integer() const { return is(Kind::kBool) ? boolean() : integer(); }
  double as_real() const { return is(Kind::kFloat) ? real() : static_cast<double>(as_integer()); }
  // What can be indexed and joined: a string, or a list that is no generator.
  bool is_sequence() const;

  // Python's truth value.
  bool is_true() const;
  // Python's name of the type, as its messages have it: "str", "NoneType".
  std::string_view type_name() const;
  // Levels of containers: 0 for what holds nothing.
  int depth() const;
  // The same object, as Python's `is`.
  bool is_same(const Value& other) const { return state_ == other.state_; }

 private:
  struct UndefinedState {
    std::shared_ptr<const std::string> what;
    bool operator==(const UndefinedState&) const { return true; }
  };
  struct NoneState {
    bool operator==(const NoneState&) const { return true; }
  };

  std::variant<UndefinedState, NoneState, bool, int64_t, double, std::shared_ptr<const Text>,
               std::shared_ptr<List>, std::shared_ptr<Dict>, Namespace*, std::shared_ptr<Loop>,
               std::shared_ptr<const Callable>>
      state_;
};

// Counts an object's memory while it lives.
class Tracked {
 public:
  Tracked(Sandbox* sandbox, int64_t num_bytes) : sandbox_(sandbox), num_bytes_(num_bytes) {}
  ~Tracked();
  Tracked(const Tracked&) = delete;
  Tracked& operator=(const Tracked&) = delete;

  // The object has grown; the sandbox has been asked before.
  void AddBytes(int64_t num_bytes) { num_bytes_ += num_bytes; }

 private:
  Sandbox* sandbox_;  // Null: not counted.
  int64_t num_bytes_;
};

struct Text {
  Tracked tracked;
  std::string bytes;
};

enum class ListKind {
  kList,
  kTuple,
  kGenerator,  // What map(), select() and the like give: can be iterated once, and nothing else.
};

struct List {
  Tracked tracked;
  std::vector<Value> items;
  ListKind kind;
  bool is_consumed = false;  // Of kGenerator.
  int depth = 1;
};

// In order of insertion. Keys are strings, numbers, booleans and none.
struct Dict {
  Tracked tracked;
  std::vector<std::pair<Value, Value>> items;
  std::unordered_map<std::string, size_t> index;  // By KeyOf(); into items.
  int depth = 1;

  const Value* Find(const Value& key) const;  // Null: not there, or not hashable.
  const Value* Find(std::string_view key) const;
};

// What distinguishes keys as Python does: 1, 1.0 and true are one key. Errors: kInvalidArgument for
// a value that can't be a key.
Result<std::string> KeyOf(const Value& key);

// The one kind of value that a template may change. Owned by the sandbox, so that namespaces which
// hold each other need no counting.
struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;

  const Value* Find(std::string_view name) const;
  void Set(std::string_view name, Value value);
};

// The `loop` of a for statement.
struct Loop {
  std::shared_ptr<List> items;
  int64_t index0 = 0;
  Value last_changed;  // Argument of the last loop.changed().
  bool has_changed = false;
};

struct Statement;
struct Arguments;

using BuiltinFunction = Result<Value> (*)(Sandbox& sandbox, const Arguments& arguments);

// A function, a method bound to its object, or a macro.
struct Callable {
  std::string name;
  BuiltinFunction function = nullptr;
  Value self;                        // Of a method; else undefined.
  const Statement* macro = nullptr;  // Of a macro.
  void* macro_scope = nullptr;       // Where it was defined; the interpreter's.
};

// What a call passes.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> named;
};

}  // namespace comet::jinja
