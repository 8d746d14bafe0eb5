#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/status.h"

namespace comet {

// Plain bounds of a repetition penalty. One below 1e-37 could push a finite logit out of float's
// range, which would look like a device that computes wrongly.
inline constexpr double kRepetitionPenaltyMin = 0.01;
inline constexpr double kRepetitionPenaltyMax = 10.0;

// How tokens are chosen. Defaults are OpenAI's.
struct SamplingParams {
  float temperature = 1.0f;                       // 0..2; 0 is greedy
  float top_p = 1.0f;                             // (0, 1]
  int top_k = 0;                                  // 0: all
  float min_p = 0.0f;                             // 0..1
  float repetition_penalty = 1.0f;                // 0.01..10
  float presence_penalty = 0.0f;                  // -2..2
  float frequency_penalty = 0.0f;                 // -2..2
  std::optional<uint64_t> seed;                   // Absent: chosen by the engine.
  std::vector<std::pair<int, float>> logit_bias;  // (token id, -100..100)
};

// Levels of priority above and below the default. SchedulerConfig::Validate() sees to it that
// waiting makes up for all of them before the deadline.
inline constexpr int kPriorityMax = 10;

// What a client asked, already in token ids.
struct Request {
  std::string request_id;
  std::vector<int> prompt_ids;
  SamplingParams sampling;
  int num_choices = 1;               // OpenAI's n
  int output_tokens_max = 0;         // 0: to the end of the context
  std::vector<std::string> stop;     // Output ends before the first of these texts.
  std::vector<int> stop_token_ids;   // Output ends at one of these tokens, which gives no text.
  bool ignore_eos = false;           // For benchmarks: end-of-generation tokens are ordinary.
  bool with_special_tokens = false;  // Control tokens give their name as text.
  bool continues_prompt = false;     // Prompt and output are one text: a space between them stays.
  int num_top_logprobs = -1;         // -1: none; 0: the chosen token's; to kTopLogprobsMax
  int priority = 0;                  // Higher runs first; within +-kPriorityMax.
  int deadline_ms = 0;               // From Submit() to the last token; 0: the configured limit.
};

// Ascending by gravity.
enum class FinishReason {
  kStop,       // End of generation, a stop text or a stop token.
  kLength,     // output_tokens_max or the context is full.
  kCancelled,  // The client went away or cancelled.
  kDeadline,   // deadline_ms passed.
  kError,      // The engine failed it: see OutputDelta::status.
};

struct TokenLogprob {
  int token_id = 0;
  float logprob = 0.0f;
  std::vector<std::pair<int, float>> top;  // (token id, logprob), best first
};

// What one choice gained. Text and tokens do not line up one to one: a delta's text is what became
// certain with its tokens (whole characters, no possible beginning of a stop text). A token that
// ended the output (end of generation, a stop token, the last of a stop text) is in token_ids and
// counted.
struct OutputDelta {
  int choice_idx = 0;
  std::string text;
  std::vector<int> token_ids;
  std::vector<TokenLogprob> logprobs;         // One a token when asked for.
  std::optional<FinishReason> finish_reason;  // Set on a choice's last delta.
  Status status;                              // Why, when finish_reason is kError.
};

struct Usage {
  int prompt_tokens = 0;
  int completion_tokens = 0;  // All choices.
};

}  // namespace comet
