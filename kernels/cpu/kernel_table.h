#pragma once

#include <cstdint>

#include "kernels/ops/linear_input.h"  // kBlockChannels

// The inner loops that exist once per instruction set, as plain functions on plain pointers.
//
// Files compiled for an instruction set instantiate templates with a type of their own, and call of
// shared headers only what is inlined: a function emitted with that file's instructions might be
// the copy that the linker keeps for everybody. A test reads their symbols (check_isa_symbols.py).
namespace comet::cpu {

inline constexpr int kLanes = 16;        // Floats of one vector, whatever the instruction set.
inline constexpr int kTileOutputs = 32;  // Output channels of one packed weight tile.
inline constexpr int kTileTokens =
    24;  // Tokens of one call at most; a multiple of every register tile.
inline constexpr int kChunkChannels = 8;  // W4 codes of one output in one 64-byte line.

// One row of the quantisation of kernels/ops/linear_input.h.
struct QuantizeRow {
  const float* x;  // [num_channels], then zeros to a multiple of kLanes.
  int num_channels;
  int num_int4_channels;
  float int4_limit;  // 7 or 127.
  float clip;
  int exponent_max;
  int8_t* codes;  // Out, [num_channels].
  float* scale;   // Out.
  int32_t* exponent;
  int32_t* code_sum;  // Out: INT8 region, INT4 region.
};

// Integer product of one weight tile, kTileOutputs channels, with up to kTileTokens tokens.
//
// W4 weights: [chunk][half][16 outputs][4 bytes]: byte j of an output holds v + 8 of channel
// 8 chunk + j in bits 0-3 and of channel 8 chunk + 4 + j in bits 4-7; half 0 is outputs 0-15. So a
// 64-byte line is an unsigned operand for 16 outputs after one AND (and one shift), and the bias of
// 8 is removed by starting a block's sum at -8 * (sum of its activation codes). INT8 weights:
// [chunk of 4 channels][half][16 outputs][4 bytes], each code + 128; the same with -128.
struct IntegerTile {
  const uint8_t* weights;
  const int8_t* steps;        // [num_blocks][kTileOutputs]: gamma (W4 only)
  const float* weight_scale;  // [kTileOutputs]
  const int8_t* codes;        // [num_tokens][codes_stride], zeros from K to num_channels
  int64_t codes_stride;
  const int32_t* block_sums;  // [num_tokens][num_blocks]: sums of codes
  const float* scale;         // [num_tokens]
  const int32_t* exponent;    // [num_tokens]
  int num_tokens;
  int num_channels;  // A multiple of kChunkChannels.
  int num_blocks;    // 1 for INT8 weights.
  int num_int4_blocks;
  float* out;  // [num_tokens][kTileOutputs]
};

// Float product of one weight tile.
struct FloatTile {
  const float* weights;  // [kTileOutputs][num_channels]
  const float* x;        // [num_tokens][num_channels]
  int num_tokens;
  int num_channels;  // A multiple of kLanes, zeros from K on.
  float* out;        // [num_tokens][kTileOutputs]
};

// Bias, residual and the one rounding of a tile's outputs.
struct FinishTile {
  const float* tile;  // [num_tokens][kTileOutputs]
  int num_tokens;
  int num_outputs;       // At most kTileOutputs.
  const float* bias;     // Null: none.
  const void* residual;  // Null: none.
  int64_t residual_stride;
  void* y;
  int64_t y_stride;
  bool is_half;  // y and residual are f16, otherwise f32.
};

// How one KV head lies in a page; see kernels/cpu/kv_page.h.
struct KvHeadLayout {
  int k_bits;
  int v_bits;
  int head_dim;
  int value_width;      // head_dim rounded up to kValueWidthMultiple
  int64_t head_bytes;   // All of one KV head in one page
  int64_t keys_offset;  // Offsets within the head, multiples of 64
  int64_t key_scale_offset;
  int64_t values_offset;
  int64_t value_scale_offset;
};

// Attention of some rows (queries times heads of one GQA group) over one KV head of one sequence.
struct AttentionTile {
  const KvHeadLayout* layout;
  const uint8_t* const* heads;  // The KV head in each page of the sequence.
  const float* q;               // [num_rows][head_dim]
  const int32_t* num_visible;   // [num_rows], ascending, at least 1: positions up to each row's
  int num_rows;
  int window;  // How many of these, the last ones, a row reads; 0: all.
  float softmax_scale;
  float* out;        // [num_rows][value_width]
  float* keys;       // Scratch [head_dim][256]
  float* values;     // Scratch [256][value_width]
  float* logits;     // Scratch [kRowTile][256]
  float* group_out;  // Scratch [kRowTile][value_width]
  float* max;        // Scratch [num_rows]
  float* sum;        // Scratch [num_rows]
};
inline constexpr int kRowTile = 4;  // Rows whose accumulators stay in registers together.

struct KernelTable {
  const char* name;
  // x and out [count]; no padding needed.
  void (*half_to_float)(const uint16_t* x, int count, float* out);
  void (*float_to_half)(const float* x, int count, uint16_t* out);
  // Sum of squares in 1024 lanes; x has zeros to a multiple of kLanes.
  float (*sum_squares)(const float* x, int count);
  // out = (x * factor) * weight
  void (*scale_row)(const float* x, float factor, const float* weight, int count, float* out);
  void (*silu_mul)(const float* gate, const float* up, int count, float* out);
  void (*quantize_row)(const QuantizeRow& row);
  // Copies a row's codes, zeros to padded_channels, and sums each run of block_channels.
  void (*stage_codes)(const int8_t* codes, int num_channels, int padded_channels,
                      int block_channels, int8_t* out, int32_t* block_sums);
  void (*w4_tile)(const IntegerTile& tile);
  void (*int8_tile)(const IntegerTile& tile);
  void (*float_tile)(const FloatTile& tile);
  void (*finish_tile)(const FinishTile& tile);
  void (*attend)(const AttentionTile& tile);
  // Sampling: number of NaN and infinities; out = Exp(x - max); sum in 1024 lanes.
  int (*count_nonfinite)(const float* x, int count);
  float (*max_value)(const float* x, int count);
  void (*exp_below)(const float* x, float max, int count, float* out);
  float (*sum_lanes)(const float* x, int count);
  void (*divide)(float* x, float divisor, int count);
};

}  // namespace comet::cpu
