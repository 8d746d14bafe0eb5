#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/model/model_source.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// What one row of an evaluation's table computes with; the texts are those of the flags.
struct EvalSetting {
  std::string activation_bits = "auto";
  std::string kv_bits = "auto";
  friend bool operator==(const EvalSetting&, const EvalSetting&) = default;
};

// "A8/KV4", "Amixed/KV8/4", "Afloat/KVauto". Errors: kInvalidArgument.
Result<EvalSetting> ParseEvalSetting(const std::string& text);

// A model and what it computes with: one row of a table.
struct EvalRow {
  std::string path;
  EvalSetting setting;
  friend bool operator==(const EvalRow&, const EvalRow&) = default;
};

// What every `comet eval` takes.
struct EvalModelOptions {
  std::string model;                  // Checkpoint, Hugging Face folder or GGUF file.
  std::string reference;              // Optional: an unquantised source run in float.
  std::vector<std::string> settings;  // One row each; empty: activation_bits and kv_bits.
  std::string activation_bits = "auto";
  std::string kv_bits = "auto";
  BackendOptions backend;

  // The rows in order, the reference first where there is one. Errors: kInvalidArgument.
  Result<std::vector<EvalRow>> Rows() const;
};

// A model opened for one row; its weights are not loaded yet.
struct EvalModel {
  Backend backend;
  ModelSource source;
  Precision precision;
  std::unique_ptr<Tokenizer> tokenizer;

  static Result<EvalModel> Open(const EvalRow& row, const BackendOptions& backend);

  // "weights 4-bit, activations 8, KV checkpoint"
  std::string Describe() const;
};

// A text file as a whole. Errors: kNotFound.
Result<std::string> ReadEvalText(const std::string& path);

}  // namespace comet
