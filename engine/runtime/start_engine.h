#pragma once

#include <memory>

#include "engine/chat_template/chat_template.h"
#include "engine/config/engine_config.h"
#include "engine/engine.h"
#include "engine/model/model.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// What an engine is made of. The model was loaded on `backend` and refers to its device and ops,
// not to the struct.
struct EngineParts {
  Backend backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;  // Null when the checkpoint has none.
};

// Starts an engine and its step thread; destroying it ends what is in flight with kCancelled and
// joins the thread. `limits` are those the model was loaded with. `observer` may be null; it
// outlives the engine. config().context_length_max of the engine is the context it serves: the
// configured one, or with 0 the most that the model, its page tables and the page pool allow.
// Before the thread starts, a step of one token and one of a chunk of a prompt (512 tokens on a
// GPU, 2 on a host) are computed and sampled from on the caller's: a device that lacks a kernel the
// model needs is told here. They count nowhere and leave no page used. Errors: kInvalidArgument
// (config breaks a rule or asks for more than `limits` or the model have), those of
// Device::Allocate() and of the ops: kUnimplemented, a kernel is missing.
Result<std::unique_ptr<Engine>> StartEngine(EngineParts parts, const ModelLimits& limits,
                                            const EngineConfig& config, EngineObserver* observer);

// Cancels what is in flight, joins the thread, and gives back what the engine was made of: its
// pages hold what was computed last. `engine` is StartEngine()'s.
EngineParts StopEngine(std::unique_ptr<Engine> engine);

}  // namespace comet
