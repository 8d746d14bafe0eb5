#pragma once

#include <cstdint>
#include <string>

#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct BenchThroughputOptions {
  std::string model;         // Checkpoint, Hugging Face folder or GGUF file; or
  std::string synthetic;     // a name of configs/models/, or a config.json: random 4-bit weights.
  double int4_share = 0.75;  // Of a synthetic model's channels.
  int num_input_tokens = 128;
  int num_output_tokens = 128;
  int num_requests = 0;           // 0: twice the running sequences, 512 at least.
  int running_sequences_max = 0;  // As SchedulerConfig; fewer where memory holds fewer.
  int step_tokens_max = 0;        // As SchedulerConfig.
  bool decode_only = false;  // As many requests as run at once; what counts is while all decode.
  bool works_ahead = true;   // As EngineConfig's.
  bool decode_graphs = true;
  bool has_profile = true;
  std::string activation_bits = "auto";
  std::string kv_bits = "auto";
  BackendOptions backend;
  std::string json;  // File for everything; "-": print it in place of the text.
  std::string svg;   // File to draw the time by class of op in.
};

// `comet bench throughput`: the engine in this process, fixed lengths, every request queued at
// once. The claim is all output tokens over the time from the first submission to the last token.
// Errors: those of LoadParts() and StartEngine(); kInternal: an output was shorter than asked for
// or logits were not finite.
Status RunBenchThroughput(const BenchThroughputOptions& options);

}  // namespace comet
