#pragma once

#include <string>
#include <vector>

#include "kernels/base/status.h"

namespace comet {

struct BenchOpsOptions {
  // w4ax_gemm, int8_gemm, rms_norm, gather, silu_mul, embedding, attention, rope_append
  std::string op = "w4ax_gemm";
  std::vector<std::string> shapes;  // Files of configs/bench/; products only.
  // Or one shape, N x K as in 28672x4096; K alone of a row op; of attention and rope_append some,
  // each batch x context or batch x context x queries.
  std::string shape;
  std::string num_tokens;             // "1,16,256"; empty: the files' own.
  std::string policy = "int8";        // int8, mixed
  std::string baseline = "cublaslt";  // cublaslt, policy, none
  bool has_residual = false;          // Products add to their result in place.
  std::string dtype = "f16";          // f16, f32: of a row op's floats.
  double int4_share = 0.75;
  std::string heads = "32x8x128";  // Of those two: query heads x KV heads x head_dim.
  std::string kv_bits = "4x4";     // K x V.
  int window = 0;
  int num_repeats = 9;
  std::string json;  // File to write everything to; "-": print it in place of the table.
  std::string svg;   // File to draw the speed-ups in.
};

// `comet bench ops`: times kernels of cuda device 0 beside cuBLASLt in the same process.
Status RunBenchOps(const BenchOpsOptions& options);

}  // namespace comet
