#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "kernels/base/status.h"

namespace comet {

struct ChatTemplateLimits {
  int steps_max = 1'000'000;  // Statements and expressions evaluated in one rendering.
  int depth_max = 64;         // Nesting of blocks, expressions and values.
  int output_bytes_max = 16 * 1024 * 1024;      // Of the result, and of any one string.
  int64_t value_bytes_max = 256 * 1024 * 1024;  // Values alive at once, the given ones included.
};

// Seconds since the epoch, for strftime_now().
using ChatTemplateClock = std::function<std::time_t()>;
std::time_t SystemTime();

// A checkpoint's Jinja chat template, parsed once and rendered in a sandbox: it sees the values it
// is given and nothing else. trim_blocks and lstrip_blocks are on, as in Hugging Face's renderer.
// Immutable, so thread-safe.
class ChatTemplate {
 public:
  // Errors: kInvalidArgument with line and column; kUnimplemented for Jinja that the subset leaves
  // out, naming it.
  static Result<std::unique_ptr<ChatTemplate>> Parse(std::string_view source,
                                                     const ChatTemplateLimits& limits = {},
                                                     ChatTemplateClock clock = SystemTime);
  virtual ~ChatTemplate() = default;

  // `values` is an object: messages, add_generation_prompt, bos_token, eos_token, tools, ...
  // Errors: kInvalidArgument carrying the message of the template's own raise_exception(), or
  // saying what failed at which line; kResourceExhausted when a limit is hit.
  virtual Result<std::string> Render(const nlohmann::ordered_json& values) const = 0;
};

}  // namespace comet
