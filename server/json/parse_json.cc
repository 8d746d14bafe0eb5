#include "server/json/parse_json.h"

#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using Json = nlohmann::json;

// Builds a value from parser events. The parser itself keeps one bit a level, so stopping it here
// bounds everything.
class LimitedBuilder : public nlohmann::json_sax<Json> {
 public:
  explicit LimitedBuilder(const JsonLimits& limits) : limits_(limits) {}

  const Status& status() const { return status_; }
  Json& root() { return root_; }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t&) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return Open(Json::object()); }
  bool start_array(std::size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // 101 is a syntax error (invalid UTF-8 included), 406 a number beyond double. The library's own
    // message quotes the input, which must not reach a log.
    const std::string_view what = error.id == 406 ? "number is out of range" : "invalid JSON";
    status_ = InvalidArgument(StrCat("body: ", what, " at byte ", position));
    return false;
  }

 private:
  template <typename T>
  bool Add(T&& value) {
    return Place(std::forward<T>(value)) != nullptr;
  }

  bool Open(Json container) {
    if (static_cast<int>(open_.size()) >= limits_.depth_max) {
      status_ = InvalidArgument(
          StrCat("body: JSON is nested deeper than ", limits_.depth_max, " levels"));
      return false;
    }
    Json* placed = Place(std::move(container));
    if (placed == nullptr) return false;
    open_.push_back(placed);
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  // Pointers in open_ stay valid: only the innermost container grows.
  Json* Place(Json value) {
    if (++num_values_ > limits_.values_max) {
      status_ = InvalidArgument(StrCat("body: JSON has more than ", limits_.values_max, " values"));
      return nullptr;
    }
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    Json& member = parent[key_];
    member = std::move(value);
    return &member;
  }

  const JsonLimits& limits_;
  Status status_;
  Json root_;
  std::vector<Json*> open_;
  std::string key_;
  int64_t num_values_ = 0;
};

}  // namespace

Result<Json> ParseJson(std::string_view text, const JsonLimits& limits) {
  // The library reads a NUL byte as the end of the text.
  if (const size_t position = text.find('\0'); position != std::string_view::npos) {
    return InvalidArgument(StrCat("body: invalid JSON at byte ", position + 1));
  }
  LimitedBuilder builder(limits);
  const bool is_complete = Json::sax_parse(text.begin(), text.end(), &builder);
  if (!builder.status().ok()) return builder.status();
  if (!is_complete) return InvalidArgument("body: invalid JSON");
  return std::move(builder.root());
}

}  // namespace comet
