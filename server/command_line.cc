#include "server/command_line.h"

#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "kernels/base/str_cat.h"
#include "server/api/version.h"
#include "server/commands/bench_ops.h"
#include "server/commands/bench_throughput.h"
#include "server/commands/eval_choice.h"
#include "server/commands/eval_perplexity.h"
#include "server/commands/generate.h"
#include "server/commands/inspect.h"
#include "server/commands/quantize.h"
#include "server/commands/quantize_plan.h"
#include "server/commands/serve.h"

namespace comet {
namespace {

// What the flags fill while they are read; outlives the parser.
struct ParsedFlags {
  std::string serve_config;
  std::vector<std::pair<std::string, std::string>> serve_flags;
  QuantizeOptions quantize;
  GenerateOptions generate;
  InspectOptions inspect;
  EvalPerplexityOptions perplexity;
  EvalChoiceOptions choice;
  BenchOpsOptions bench_ops;
  BenchThroughputOptions bench_throughput;
};

std::string Example(const std::string& line) { return StrCat("Example:\n  ", line); }

void AddBackendFlags(CLI::App& command, BackendOptions& backend) {
  command.add_option("--device", backend.device, "cpu, reference or cuda")->capture_default_str();
  command.add_option("--cpu-isa", backend.cpu_isa, "auto, scalar, avx2 or avx512vnni")
      ->capture_default_str();
  command.add_option("--threads", backend.num_threads, "0: what the cgroup allows")
      ->capture_default_str();
}

CLI::Option* AddModelFlag(CLI::App& command, std::string& model) {
  return command.add_option("--model", model,
                            "Checkpoint, or, unquantised, a Hugging Face folder or .gguf file");
}

struct PrecisionFlags {
  CLI::Option* activation_bits;
  CLI::Option* kv_bits;
};

PrecisionFlags AddPrecisionFlags(CLI::App& command, std::string& activation_bits,
                                 std::string& kv_bits) {
  return {
      .activation_bits =
          command.add_option("--activation-bits", activation_bits, "auto, mixed, 8 or float")
              ->capture_default_str(),
      .kv_bits = command.add_option("--kv-bits", kv_bits, "auto, 4, 8, 16, 32 or K/V as in 8/4")
                     ->capture_default_str()};
}

void AddServe(CLI::App& app, ParsedFlags& parsed) {
  CLI::App& command = *app.add_subcommand("serve", "Serve a model over HTTP and gRPC");
  command.footer(Example("comet serve --model models/smollm2.comet --port 8000"));
  command.add_option("--config", parsed.serve_config,
                     "JSON file with comments; flags go over it, unknown keys are errors");
  ServeOptions defaults;
  for (const OptionRule& rule : ServeOptionRules(defaults)) {
    const std::string flag(rule.flag);
    const std::string default_text = OptionText(rule);
    std::string help(rule.help);
    if (!default_text.empty()) help += StrCat(" [", default_text, "]");
    command.add_option_function<std::string>(
        flag,
        [&parsed, flag](const std::string& text) { parsed.serve_flags.emplace_back(flag, text); },
        help);
  }
}

void AddAblationFlags(CLI::App& command, QuantizeOptions& options) {
  command.add_flag("--no-rotation", options.no_rotation,
                   "Leave the residual stream and values in their own bases (for ablation)");
  command.add_flag("--no-down-hadamard", options.no_down_hadamard,
                   "No Hadamard ahead of down_proj (for ablation)");
  command.add_flag("--float-calibration", options.float_calibration,
                   "Calibrate on the float model alone (for ablation)");
  command.add_flag("--no-key-smoothing", options.no_key_smoothing,
                   "Leave keys unbalanced (for ablation)");
}

void AddTuningFlags(CLI::App& command, QuantizeOptions& options) {
  command.add_option("--tuning-steps", options.tuning_steps, "Of scales, norms and codes; 0: none")
      ->capture_default_str();
  command
      .add_option("--tuning-rate", options.tuning_rate,
                  "Largest relative change of a scale in one step")
      ->capture_default_str();
  command
      .add_option("--tuning-code-rate", options.tuning_code_rate,
                  "Largest change of a code in one step; 0: codes are held")
      ->capture_default_str();
}

void AddQuantize(CLI::App& app, QuantizeOptions& options) {
  CLI::App& command = *app.add_subcommand("quantize", "Make a 4-bit checkpoint of a model");
  command.footer(StrCat(
      Example(
          "comet quantize models/SmolLM2-135M-Instruct.Q4_1.gguf --output models/smollm2.comet"),
      "\n  comet quantize --dry-run llama-3-70b/config.json     what it would take, from the "
      "shape"));
  command
      .add_option("source", options.source,
                  "Model: a Hugging Face folder or a .gguf file; for a dry run also a config.json")
      ->required();
  CLI::Option_group& job = *command.add_option_group("What to do");
  job.add_option("--output", options.output, "Checkpoint folder to write");
  CLI::Option* dry_run =
      job.add_flag("--dry-run", options.dry_run,
                   "Print the memory, time and disk it would take, and write nothing");
  job.require_option(1, 2);
  command.add_flag("--json", options.json, "Of a dry run: one JSON object instead of the text")
      ->needs(dry_run);
  command.add_option("--calibration", options.calibration, "Text file; empty: the built-in text");
  command
      .add_option("--int4-share", options.int4_share,
                  "Wanted share of multiply-adds on INT4 channels")
      ->capture_default_str();
  command
      .add_option("--calibration-tokens", options.calibration_tokens,
                  "Most tokens of the text to take statistics of, tuning sees more; 0: the default")
      ->capture_default_str();
  command.add_option("--damping", options.damping, "Added to the gram matrices' diagonals")
      ->capture_default_str();
  command.add_flag("--no-error-feedback", options.no_error_feedback,
                   "Round each weight alone (for ablation)");
  command
      .add_option("--refinement-rounds", options.refinement_rounds,
                  "Rounds of steps and codes in turn; 0: none")
      ->capture_default_str();
  AddAblationFlags(command, options);
  AddTuningFlags(command, options);
  command
      .add_option("--rescale-seed", options.rescale_seed,
                  "Quantise the same function with randomly rescaled weights (for measuring)")
      ->each([&options](const std::string&) { options.has_rescale = true; });
  command
      .add_option("--key-error-max", options.key_error_max,
                  "Attention output error beyond which a layer's keys get 8 or 16 bits")
      ->capture_default_str();
  command
      .add_option("--value-error-max", options.value_error_max,
                  "The same of its values, behind o_proj; keys then get as many bits at least")
      ->capture_default_str();
  command.add_flag("--force", options.force, "Replace an output that exists");
  AddBackendFlags(command, options.backend);
}

void AddInspect(CLI::App& app, InspectOptions& options) {
  CLI::App& command = *app.add_subcommand("inspect", "Print what a model or checkpoint holds");
  command.footer(Example("comet inspect models/smollm2.comet --svg error.svg"));
  command.add_option("path", options.path, "Checkpoint, Hugging Face folder or .gguf file")
      ->required();
  command.add_option("--svg", options.svg, "Draw a checkpoint's error by layer into this file");
  command.add_flag("--json", options.json, "One JSON object instead of the table");
}

void AddGenerate(CLI::App& app, GenerateOptions& options) {
  CLI::App& command = *app.add_subcommand("generate", "Continue one prompt on the terminal");
  command.footer(
      Example("comet generate --model models/smollm2.comet \"The capital of France is\""));
  AddModelFlag(command, options.model)->required();
  command.add_option("prompt", options.prompt, "What to continue")->required();
  command.add_flag("--chat", options.chat, "Put the prompt through the chat template");
  command.add_option("--max-tokens", options.output_tokens_max, "Most tokens generated")
      ->capture_default_str();
  command.add_option("--temperature", options.sampling.temperature, "0: greedy")
      ->capture_default_str();
  command.add_option("--top-p", options.sampling.top_p, "Nucleus")->capture_default_str();
  command.add_option("--top-k", options.sampling.top_k, "0: all")->capture_default_str();
  command.add_option("--min-p", options.sampling.min_p, "Relative to the likeliest token")
      ->capture_default_str();
  command.add_option("--seed", options.sampling.seed, "Equal seeds give equal outputs");
  command.add_option("--context-length", options.context_length_max, "0: the model's own")
      ->capture_default_str();
  AddPrecisionFlags(command, options.activation_bits, options.kv_bits);
  AddBackendFlags(command, options.backend);
  command.add_flag("--json", options.json, "One JSON object instead of the text");
}

void AddEvalModelFlags(CLI::App& command, EvalModelOptions& options) {
  AddModelFlag(command, options.model)->required();
  command.add_option("--reference", options.reference,
                     "Unquantised source, run in float with KV 16 and compared with");
  const PrecisionFlags precision =
      AddPrecisionFlags(command, options.activation_bits, options.kv_bits);
  command
      .add_option("--setting", options.settings,
                  "A<activation bits>/KV<KV bits>, as in A8/KV4 or Amixed/KV8/4; repeat it to "
                  "compare several in one table")
      ->allow_extra_args(false)
      ->excludes(precision.activation_bits)
      ->excludes(precision.kv_bits);
  AddBackendFlags(command, options.backend);
}

void AddEvalPerplexity(CLI::App& eval, EvalPerplexityOptions& options) {
  CLI::App& command = *eval.add_subcommand("perplexity", "Perplexity over a text's windows");
  command.footer(Example(
      "comet eval perplexity --model models/smollm2.comet --text valid.txt --windows 16 \\\n"
      "    --reference smollm2.gguf --setting A8/KV16 --setting A8/KV4 --setting Amixed/KV4"));
  command.add_option("--text", options.text, "Text file")->required();
  command.add_option("--context", options.context, "Tokens of a window")->capture_default_str();
  command.add_option("--windows", options.windows, "0: all that the text fills")
      ->check(CLI::Range(0, std::numeric_limits<int>::max()))
      ->capture_default_str();
  command.add_option("--svg", options.svg,
                     "Draw the checkpoint's error by layer into this file (as comet inspect does)");
  AddEvalModelFlags(command, options.model);
  command.add_flag("--json", options.json, "One JSON array instead of the table");
}

void AddEvalChoice(CLI::App& eval, EvalChoiceOptions& options) {
  CLI::App& command = *eval.add_subcommand("choice", "Multiple choice by log-likelihood");
  command.footer(StrCat(
      "Each line of a file is one JSON object, either\n"
      "  {\"query\": \"...\", \"choices\": [\"...\", \"...\"], \"gold\": 0}        or\n"
      "  {\"context_options\": [\"...\", \"...\"], \"continuation\": \"...\", \"gold\": 0}\n"
      "An option's score is the log-likelihood of its continuation (the choice after the query;\n"
      "or the one continuation after each context), divided by its bytes; the highest is chosen.\n"
      "A query that begins with \"Question:\" is followed by \"\\nAnswer:\", and a space precedes\n"
      "every continuation. BOS is added where the vocabulary asks for it. \"+/-\" is one standard\n"
      "error; over the reference it is that of the paired difference.\n\n",
      Example(
          "comet eval choice --model models/smollm2.comet --reference smollm2.gguf \\\n"
          "    --setting A8/KV4 --setting Amixed/KV4 piqa.jsonl arc_easy.jsonl winogrande.jsonl")));
  command.add_option("files", options.files, "Files of items, one JSON object a line")->required();
  command.add_option("--limit", options.limit, "First items of each file; 0: all")
      ->check(CLI::Range(0, std::numeric_limits<int>::max()))
      ->capture_default_str();
  command
      .add_option("--normalise", options.normalisation,
                  "What a log-likelihood is divided by: bytes, tokens or none")
      ->capture_default_str();
  AddEvalModelFlags(command, options.model);
  command.add_flag("--json", options.json, "One JSON array instead of the table");
}

void AddEval(CLI::App& app, ParsedFlags& parsed) {
  CLI::App& eval = *app.add_subcommand("eval", "Measure a model's quality");
  eval.require_subcommand(1);
  eval.footer(Example("comet eval perplexity --model models/smollm2.comet --text valid.txt"));
  AddEvalPerplexity(eval, parsed.perplexity);
  AddEvalChoice(eval, parsed.choice);
}

void AddBenchOps(CLI::App& bench, BenchOpsOptions& options) {
  CLI::App& command = *bench.add_subcommand("ops", "Time kernels beside cuBLASLt on a GPU");
  command.footer(
      Example("comet bench ops --op w4ax_gemm --shapes configs/bench/paper_shapes.json --m 16,64 "
              "--json ops.json --svg ops.svg"));
  command
      .add_option("--op", options.op,
                  "w4ax_gemm, int8_gemm, rms_norm, gather, silu_mul, embedding, attention or "
                  "rope_append")
      ->capture_default_str();
  command.add_option("--shapes", options.shapes,
                     "Files of shapes [configs/bench/llama3_layers.json]; products only");
  command.add_option(
      "--shape", options.shape,
      "One product, N x K as in 28672x4096; channels of a row op as in 4096,8192; of attention "
      "and rope_append batch x context [x queries] as in 64x4096,1x8192x8192");
  command.add_option("--heads", options.heads, "Of attention: query heads x KV heads x head_dim")
      ->capture_default_str();
  command.add_option("--kv-bits", options.kv_bits, "Of attention: K x V")->capture_default_str();
  command.add_option("--window", options.window, "Of attention: positions a query sees; 0: all")
      ->capture_default_str();
  command.add_option("--m", options.num_tokens, "Tokens as in 1,16,256; empty: the files' own");
  command.add_option("--policy", options.policy, "Activations: int8 or mixed")
      ->capture_default_str();
  command.add_option("--int4-share", options.int4_share, "Share of INT4 channels")
      ->capture_default_str();
  command
      .add_option("--baseline", options.baseline,
                  "cublaslt (fp16, INT8, FP8), policy (our own other one) or none")
      ->capture_default_str();
  command.add_flag("--residual", options.has_residual,
                   "Our products add to their result in place, as o and down do");
  command.add_option("--dtype", options.dtype, "Floats of a row op: f16 or f32")
      ->capture_default_str();
  command.add_option("--repeats", options.num_repeats, "Replays of each kernel; medians count")
      ->capture_default_str();
  command.add_option("--json", options.json, "File for everything; -: print it, not the table");
  command.add_option("--svg", options.svg, "File to draw the speed-ups over fp16 in");
}

void AddBenchThroughput(CLI::App& bench, BenchThroughputOptions& options) {
  CLI::App& command = *bench.add_subcommand(
      "throughput", "Run the engine offline, every request queued at once, fixed lengths");
  command.footer(
      StrCat("The claim is all output tokens over the time from the first submission to the last "
             "token.\n\n",
             Example("comet bench throughput --synthetic llama-3-8b --input-tokens 1000 \\\n"
                     "    --output-tokens 1000 --device cuda --json run.json --svg run.svg")));
  CLI::Option_group& source = *command.add_option_group("What to run");
  AddModelFlag(source, options.model);
  source.add_option("--synthetic", options.synthetic,
                    "Random 4-bit weights in a shape of configs/models/, as llama-3-8b, or of a "
                    "config.json");
  source.require_option(1);
  command.add_option("--int4-share", options.int4_share, "Share of INT4 channels; synthetic only")
      ->capture_default_str();
  command.add_option("--input-tokens", options.num_input_tokens, "Of each prompt")
      ->capture_default_str();
  command.add_option("--output-tokens", options.num_output_tokens, "Of each output")
      ->capture_default_str();
  CLI::Option* requests = command.add_option("--requests", options.num_requests,
                                             "0: twice what runs at once, 512 at least");
  command.add_option("--running-sequences-max", options.running_sequences_max,
                     "At once; 0: 64 on a host, 512 on a GPU; fewer where memory holds fewer");
  command.add_option("--step-tokens-max", options.step_tokens_max,
                     "Of one step; 0: 512 on a host, 2048 on a GPU");
  command
      .add_flag("--decode-only", options.decode_only,
                "As many requests as run at once, to tell the rate while all decode")
      ->excludes(requests);
  command.add_flag("!--no-working-ahead", options.works_ahead,
                   "Finish a step before the next is planned, on a GPU too");
  command.add_flag("!--no-decode-graphs", options.decode_graphs,
                   "Issue decode steps op by op, on a GPU too");
  command.add_flag("!--no-profile", options.has_profile,
                   "Leave out the pass after the run that times each class of op");
  AddPrecisionFlags(command, options.activation_bits, options.kv_bits);
  AddBackendFlags(command, options.backend);
  command.add_option("--json", options.json, "File for everything; -: print it, not the text");
  command.add_option("--svg", options.svg, "File to draw the time by class of op in");
}

void AddBench(CLI::App& app, ParsedFlags& parsed) {
  CLI::App& bench = *app.add_subcommand("bench", "Measure speed");
  bench.require_subcommand(1);
  bench.footer(Example("comet bench throughput --synthetic llama-3-8b --device cuda"));
  AddBenchOps(bench, parsed.bench_ops);
  AddBenchThroughput(bench, parsed.bench_throughput);
}

// The options are checked here, so that a wrong one is wrong usage and not a failed start.
Command MakeServeCommand(const ParsedFlags& parsed) {
  Result<ServeOptions> options = LoadServeOptions(parsed.serve_config, parsed.serve_flags);
  if (!options.ok()) {
    std::fprintf(stderr, "comet serve: %s\n", options.status().message().c_str());
    return {.run = nullptr, .exit_code = kExitUsage};
  }
  return {.run = [options = std::move(options).value()] { return RunServe(options); }};
}

Command MakeCommand(const CLI::App& app, const ParsedFlags& parsed) {
  if (app.got_subcommand("serve")) return MakeServeCommand(parsed);
  if (app.got_subcommand("quantize")) {
    return {.run = [options = parsed.quantize] {
      return options.dry_run ? RunQuantizePlan(options) : RunQuantize(options);
    }};
  }
  if (app.got_subcommand("inspect")) {
    return {.run = [options = parsed.inspect] { return RunInspect(options); }};
  }
  if (app.got_subcommand("generate")) {
    return {.run = [options = parsed.generate] { return RunGenerate(options); }};
  }
  if (app.got_subcommand("bench")) {
    if (app.get_subcommand("bench")->got_subcommand("throughput")) {
      return {.run = [options = parsed.bench_throughput] { return RunBenchThroughput(options); }};
    }
    return {.run = [options = parsed.bench_ops] { return RunBenchOps(options); }};
  }
  if (app.get_subcommand("eval")->got_subcommand("choice")) {
    return {.run = [options = parsed.choice] { return RunEvalChoice(options); }};
  }
  return {.run = [options = parsed.perplexity] { return RunEvalPerplexity(options); }};
}

}  // namespace

Command ParseCommandLine(int argc, char** argv) {
  ParsedFlags parsed;
  CLI::App app("comet: serves LLaMA-family models from 4-bit weights and a 4-bit KV cache",
               "comet");
  app.set_version_flag("--version", StrCat("comet ", Version()));
  app.require_subcommand(1);
  app.footer("Run 'comet COMMAND --help' for a command's options and an example.");
  AddServe(app, parsed);
  AddQuantize(app, parsed.quantize);
  AddGenerate(app, parsed.generate);
  AddInspect(app, parsed.inspect);
  AddEval(app, parsed);
  AddBench(app, parsed);
  // The library reports by throwing; exit() prints help to stdout and errors to stderr.
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool is_asked_for = app.exit(error) == 0;
    return {.run = nullptr, .exit_code = is_asked_for ? 0 : kExitUsage};
  }
  return MakeCommand(app, parsed);
}

}  // namespace comet
