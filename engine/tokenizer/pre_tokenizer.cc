#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/tokenizer/pre_tokenizer.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "engine/tokenizer/utf8.h"
#include "kernels/base/check.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// What the tokenizers these patterns come from call white space: Unicode's White_Space. PCRE2's \s
// has U+180E besides.
#define COMET_SPACE \
  R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})"

constexpr char kGpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" COMET_SPACE
                         "\\p{L}\\p{N}]+"
                         "|[" COMET_SPACE "]+(?![^" COMET_SPACE "])|[" COMET_SPACE "]+";

// Digits are cut out one by one first and GPT-2's pattern runs between them. In one pattern: a
// space never joins a digit, and a run of spaces before a digit stays whole, as at the end of the
// text.
constexpr char kSmolLm[] = "\\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?[^" COMET_SPACE
                           "\\p{L}\\p{N}]+"
                           "|[" COMET_SPACE "]+(?![^" COMET_SPACE "\\p{N}])|[" COMET_SPACE "]+";

constexpr char kLlama3[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
    "| ?[^" COMET_SPACE "\\p{L}\\p{N}]+[\\r\\n]*|[" COMET_SPACE
    "]*[\\r\\n]+"
    "|[" COMET_SPACE "]+(?![^" COMET_SPACE "])|[" COMET_SPACE "]+";

constexpr char kQwen2[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
    "| ?[^" COMET_SPACE "\\p{L}\\p{N}]+[\\r\\n]*|[" COMET_SPACE
    "]*[\\r\\n]+"
    "|[" COMET_SPACE "]+(?![^" COMET_SPACE "])|[" COMET_SPACE "]+";

#undef COMET_SPACE

struct Spec {
  std::string_view name;
  const char* pattern;
};

constexpr Spec kSpecs[] = {
    {"default", kGpt2},     {"gpt-2", kGpt2},    {"gpt2", kGpt2},
    {"smollm", kSmolLm},    {"qwen2", kQwen2},   {"deepseek-r1-qwen", kQwen2},
    {"llama-bpe", kLlama3}, {"llama3", kLlama3}, {"llama-v3", kLlama3},
};

// The same patterns in Oniguruma's syntax, as published tokenizer.json files have them.
struct SplitPattern {
  std::string_view pattern;
  std::string_view name;
};

constexpr SplitPattern kSplits[] = {
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
     R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "llama-bpe"},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
     R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "qwen2"},
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", "gpt-2"},
};

// Steps of one match. No pattern above backtracks more than once over a run of characters, so a run
// must be tens of megabytes long to get here.
constexpr uint32_t kMatchLimit = 100'000'000;
constexpr size_t kJitStackBytesMin = 32 * 1024;
constexpr size_t kJitStackBytesMax = 16 * 1024 * 1024;

struct FreeMatch {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

// How many of the first bytes are whole UTF-8 characters.
size_t ValidPrefixBytes(std::string_view text) {
  size_t pos = 0;
  while (pos < text.size()) {
    if (static_cast<uint8_t>(text[pos]) < 0x80) {
      ++pos;
      continue;
    }
    const Utf8Char next = ReadUtf8Char(text.substr(pos));
    if (next.state != Utf8State::kValid) break;
    pos += next.num_bytes;
  }
  return pos;
}

}  // namespace

struct PreTokenizer::Pattern {
  pcre2_code* code = nullptr;

  ~Pattern() { pcre2_code_free(code); }
};

namespace {

// What matching needs besides the pattern; one for each call of Split(), which may run in any
// thread.
class Matcher {
 public:
  explicit Matcher(const pcre2_code* code)
      : code_(code),
        data_(pcre2_match_data_create_from_pattern(code, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        jit_stack_(pcre2_jit_stack_create(kJitStackBytesMin, kJitStackBytesMax, nullptr)) {
    COMET_CHECK(data_ && context_ && jit_stack_);
    pcre2_set_match_limit(context_.get(), kMatchLimit);
    pcre2_jit_stack_assign(context_.get(), nullptr, jit_stack_.get());
  }

  // `text` is valid UTF-8.
  Status Split(std::string_view text, const std::function<void(std::string_view)>& on_stretch) {
    size_t pos = 0;
    while (pos < text.size()) {
      const int rc = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), pos,
                                 PCRE2_NO_UTF_CHECK | PCRE2_ANCHORED, data_.get(), context_.get());
      if (rc < 0) return MatchError(rc);
      const size_t end = pcre2_get_ovector_pointer(data_.get())[1];
      COMET_CHECK(end > pos && end <= text.size());
      on_stretch(text.substr(pos, end - pos));
      pos = end;
    }
    return Status::Ok();
  }

 private:
  static Status MatchError(int rc) {
    std::array<PCRE2_UCHAR, 256> message{};
    pcre2_get_error_message(rc, message.data(), message.size());
    return ResourceExhausted(
        StrCat("pre-tokenizer: ", reinterpret_cast<const char*>(message.data())));
  }

  const pcre2_code* code_;
  std::unique_ptr<pcre2_match_data, FreeMatch> data_;
  std::unique_ptr<pcre2_match_context, FreeMatch> context_;
  std::unique_ptr<pcre2_jit_stack, FreeMatch> jit_stack_;
};

}  // namespace

PreTokenizer::PreTokenizer(std::unique_ptr<Pattern> pattern) : pattern_(std::move(pattern)) {}

PreTokenizer::~PreTokenizer() = default;

std::string PreTokenizer::NameOfSplit(std::string_view pattern) {
  for (const SplitPattern& split : kSplits) {
    if (split.pattern == pattern) return std::string(split.name);
  }
  return "";
}

Result<std::unique_ptr<PreTokenizer>> PreTokenizer::Create(const std::string& name) {
  const auto* spec = std::find_if(std::begin(kSpecs), std::end(kSpecs),
                                  [&](const Spec& candidate) { return candidate.name == name; });
  if (spec == std::end(kSpecs)) {
    return Unimplemented(StrCat("tokenizer: pre-tokenizer is '", name,
                                "', expected default, gpt-2, smollm, llama-bpe or qwen2"));
  }
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  auto pattern = std::make_unique<Pattern>();
  pattern->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(spec->pattern), PCRE2_ZERO_TERMINATED,
                                PCRE2_UTF | PCRE2_UCP, &error, &error_offset, nullptr);
  COMET_CHECK(pattern->code != nullptr);  // The patterns are constants of this file.
  // Where the system forbids executable memory this fails, and matching interprets the pattern: the
  // result is the same, at about a tenth of the speed.
  (void)pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE);
  return std::unique_ptr<PreTokenizer>(new PreTokenizer(std::move(pattern)));
}

Status PreTokenizer::Split(std::string_view text,
                           const std::function<void(std::string_view)>& on_stretch) const {
  Matcher matcher(pattern_->code);
  while (!text.empty()) {
    const size_t num_valid = ValidPrefixBytes(text);
    COMET_RETURN_IF_ERROR(matcher.Split(text.substr(0, num_valid), on_stretch));
    text.remove_prefix(num_valid);
    if (text.empty()) break;
    const size_t num_invalid = ReadUtf8Char(text).num_bytes;
    on_stretch(text.substr(0, num_invalid));
    text.remove_prefix(num_invalid);
  }
  return Status::Ok();
}

}  // namespace comet
