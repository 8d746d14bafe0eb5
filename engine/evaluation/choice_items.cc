#include "engine/evaluation/choice_items.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <nlohmann/json.hpp>

#include "engine/loader/json_reader.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int kItemDepth = 8;
constexpr size_t kOptionsMax = 64;
constexpr std::string_view kQuestion = "Question:";
constexpr std::string_view kAnswer = "\nAnswer:";
constexpr std::string_view kSpaces = " \t\r\n";

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(kSpaces);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpaces) + 1 - first);
}

// One line's object; faults name file, line and key.
class ItemParser {
 public:
  ItemParser(std::string where, const nlohmann::json& object)
      : where_(std::move(where)), object_(object) {}

  Result<ChoiceItem> Parse() const;

 private:
  Result<std::string> String(const char* key) const;
  Result<std::vector<std::string>> Strings(const char* key) const;
  Status Fail(std::string_view key, std::string_view expected) const {
    return InvalidArgument(StrCat(where_, ": ", key, " is not ", expected));
  }

  std::string where_;
  const nlohmann::json& object_;
};

Result<ChoiceItem> ItemParser::Parse() const {
  if (!object_.is_object()) return InvalidArgument(StrCat(where_, ": expected a JSON object"));
  ChoiceItem item;
  if (object_.contains("choices")) {
    COMET_ASSIGN_OR_RETURN(std::string context, String("query"));
    COMET_ASSIGN_OR_RETURN(const std::vector<std::string> choices, Strings("choices"));
    if (context.starts_with(kQuestion)) context += kAnswer;
    for (const std::string& choice : choices) item.options.push_back({context, " " + choice});
  } else if (object_.contains("context_options")) {
    COMET_ASSIGN_OR_RETURN(const std::string continuation, String("continuation"));
    COMET_ASSIGN_OR_RETURN(const std::vector<std::string> contexts, Strings("context_options"));
    for (const std::string& context : contexts) {
      item.options.push_back({context, " " + continuation});
    }
  } else {
    return InvalidArgument(
        StrCat(where_, ": has no \"choices\" and no \"context_options\", expected one of them"));
  }
  const auto gold = object_.find("gold");
  if (gold == object_.end() || !gold->is_number_integer() || gold->get<int64_t>() < 0 ||
      gold->get<int64_t>() >= static_cast<int64_t>(item.options.size())) {
    return Fail("gold", StrCat("an option's index, 0 to ", item.options.size() - 1));
  }
  item.gold = gold->get<int>();
  return item;
}

Result<std::string> ItemParser::String(const char* key) const {
  const auto value = object_.find(key);
  if (value == object_.end() || !value->is_string()) return Fail(key, "a string");
  std::string text(Trim(value->get_ref<const std::string&>()));
  if (text.empty()) return Fail(key, "a text with other than white space");
  return text;
}

Result<std::vector<std::string>> ItemParser::Strings(const char* key) const {
  const auto values = object_.find(key);
  if (values == object_.end() || !values->is_array() || values->size() < 2 ||
      values->size() > kOptionsMax) {
    return Fail(key, StrCat("an array of 2 to ", kOptionsMax, " strings"));
  }
  std::vector<std::string> texts;
  for (const nlohmann::json& value : *values) {
    if (!value.is_string()) return Fail(key, "an array of strings");
    texts.emplace_back(Trim(value.get_ref<const std::string&>()));
    if (texts.back().empty()) return Fail(key, "an array of texts with other than white space");
  }
  return texts;
}

Result<std::vector<int>> Encode(const Tokenizer& tokenizer, const std::string& text) {
  COMET_ASSIGN_OR_RETURN(std::vector<int> ids, tokenizer.Encode(text, {.add_special = true}));
  if (tokenizer.vocabulary().add_eos) ids.pop_back();
  return ids;
}

}  // namespace

Result<std::vector<ChoiceItem>> ParseChoiceItems(std::string_view where, std::string_view text,
                                                 int items_max) {
  std::vector<ChoiceItem> items;
  for (int line_number = 1; !text.empty(); ++line_number) {
    if (items_max > 0 && static_cast<int>(items.size()) == items_max) break;
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = Trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty()) continue;
    const std::string line_where = StrCat(where, ":", line_number);
    const Result<nlohmann::json> json = ParseJson(line_where, line, kItemDepth);
    if (!json.ok()) return InvalidArgument(json.status().message());
    COMET_ASSIGN_OR_RETURN(ChoiceItem item, ItemParser(line_where, *json).Parse());
    items.push_back(std::move(item));
  }
  if (items.empty()) return InvalidArgument(StrCat(where, ": has no item, expected at least one"));
  return items;
}

Result<TokenizedItem> TokenizeChoiceItem(const Tokenizer& tokenizer, const ChoiceItem& item,
                                         int tokens_max) {
  TokenizedItem tokenized{.options = {}, .gold = item.gold};
  for (const ChoiceOption& option : item.options) {
    COMET_ASSIGN_OR_RETURN(const std::vector<int> context, Encode(tokenizer, option.context));
    COMET_ASSIGN_OR_RETURN(std::vector<int> whole,
                           Encode(tokenizer, option.context + option.continuation));
    const size_t length = std::min(context.size(), whole.size());
    const auto shared = std::mismatch(
        whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length), context.begin());
    const int num_context = static_cast<int>(shared.first - whole.begin());
    if (num_context == 0 || num_context == static_cast<int>(whole.size())) {
      return InvalidArgument(StrCat("choice: \"", option.continuation, "\" after \"",
                                    option.context, "\": has ", num_context, " context tokens of ",
                                    whole.size(), ", expected at least one of each"));
    }
    if (static_cast<int>(whole.size()) > tokens_max) {
      return InvalidArgument(StrCat("choice: an option has ", whole.size(),
                                    " tokens, expected at most ", tokens_max,
                                    ", the model's context"));
    }
    tokenized.options.push_back(
        {.ids = std::move(whole),
         .num_context = num_context,
         .continuation_bytes = static_cast<int>(option.continuation.size()) - 1});
  }
  return tokenized;
}

}  // namespace comet
