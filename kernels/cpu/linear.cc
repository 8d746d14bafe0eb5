#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/cpu/cpu_ops.h"

namespace comet {
namespace {

// Decoding streams every weight tile once: a few tiles an item keep the hand-out cheap, and at
// least four items a thread even out the load.
int TilesPerItem(int num_tokens, int num_tiles, int num_threads) {
  constexpr int kItemsPerThread = 4;
  constexpr int kTilesMax = 8;
  if (num_tokens >= cpu::kTileTokens) return 1;
  return std::clamp(num_tiles / (kItemsPerThread * num_threads), 1, kTilesMax);
}

// Many tokens go to items of several tokens' tiles each, so that few tiles of outputs (18 of 576
// channels) still fill the threads.
int TokensPerItem(int num_tokens, int num_tiles, int num_threads) {
  constexpr int kItemsPerThread = 4;
  const int num_parts = CeilDiv(kItemsPerThread * num_threads, num_tiles);
  return AlignUp(CeilDiv(num_tokens, num_parts), cpu::kTileTokens);
}

// Element [row, column] of a matrix, null where it is absent.
template <typename Pointer>
Pointer ElementAt(const BasicTensorView<Pointer>& tensor, int row, int column) {
  if (!tensor.is_present()) return nullptr;
  using Byte = std::conditional_t<std::is_same_v<Pointer, const void*>, const std::byte, std::byte>;
  const int64_t offset = row * tensor.stride(0) + column;
  return static_cast<Byte*>(tensor.data()) + offset * BytesOf(tensor.dtype());
}

}  // namespace

Status CpuOps::Linear(const LinearArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  COMET_RETURN_IF_ERROR(RequireByteCodes("linear", args.x.format));
  const cpu::CpuLinear& weights = cpu::CpuLinear::Unpack(*args.weights);
  const int num_tokens = args.x.num_tokens();
  if (num_tokens == 0 || weights.num_outputs() == 0) return Status::Ok();

  const StagedInput input = StageInput(args.x, weights);
  const int num_tiles = weights.num_tiles();
  const int tiles_per_item = TilesPerItem(num_tokens, num_tiles, num_threads_);
  const int tokens_per_item = TokensPerItem(num_tokens, num_tiles, num_threads_);
  const int num_parts = CeilDiv(num_tokens, tokens_per_item);
  const int num_items = CeilDiv(num_tiles, tiles_per_item) * num_parts;
  pool().ParallelFor(num_items, [&](int item_idx, int thread_idx) {
    const int first = item_idx / num_parts * tiles_per_item;
    const int last = std::min(first + tiles_per_item, num_tiles);
    const int first_token = item_idx % num_parts * tokens_per_item;
    const TokenRange tokens{first_token, std::min(first_token + tokens_per_item, num_tokens)};
    for (int tile_idx = first; tile_idx < last; ++tile_idx) {
      LinearTile(args, weights, input, tile_idx, tokens, scratch_[static_cast<size_t>(thread_idx)]);
    }
  });
  return Status::Ok();
}

CpuOps::StagedInput CpuOps::StageInput(const LinearInput& x, const cpu::CpuLinear& weights) {
  const int num_tokens = x.num_tokens();
  const int num_channels = x.num_channels();
  const int64_t padded = weights.padded_inputs();
  if (weights.kind() == WeightKind::kFloat) {
    const bool is_padded = num_channels == padded && x.values.stride(0) == padded;
    if (is_padded && x.values.dtype() == DType::kF32) return {.values = x.values.as<float>()};
    float* values = staged_values_.Get(num_tokens * padded);
    ForTokens(num_tokens, [&](int t, ThreadScratch&) {
      LoadRow(x.values, t, 0, num_channels, values + t * padded);
      std::fill(values + t * padded + num_channels, values + (t + 1) * padded, 0.0f);
    });
    return {.values = values};
  }
  const int num_blocks = weights.num_blocks();
  const int block_channels =
      weights.kind() == WeightKind::kW4ax ? kBlockChannels : std::max(num_channels, 1);
  int8_t* codes = staged_codes_.Get(num_tokens * padded);
  int32_t* block_sums = staged_sums_.Get(int64_t{num_tokens} * num_blocks);
  ForTokens(num_tokens, [&](int t, ThreadScratch&) {
    kernels_.stage_codes(x.codes.as<int8_t>() + t * x.codes.stride(0), num_channels,
                         static_cast<int>(padded), block_channels, codes + t * padded,
                         block_sums + int64_t{t} * num_blocks);
  });
  return {.codes = codes, .block_sums = block_sums};
}

const float* CpuOps::FloatTile(const cpu::CpuLinear& weights, int tile_idx,
                               ThreadScratch& scratch) const {
  if (!weights.is_half()) return weights.float_tile(tile_idx);
  const int count = cpu::kTileOutputs * weights.padded_inputs();
  float* const values = scratch.weights.Get(count);
  kernels_.half_to_float(weights.half_tile(tile_idx), count, values);
  return values;
}

void CpuOps::LinearTile(const LinearArgs& args, const cpu::CpuLinear& weights,
                        const StagedInput& input, int tile_idx, TokenRange tokens,
                        ThreadScratch& scratch) const {
  alignas(64) float out[cpu::kTileTokens * cpu::kTileOutputs];
  const bool is_float = weights.kind() == WeightKind::kFloat;
  const float* const values = is_float ? FloatTile(weights, tile_idx, scratch) : nullptr;
  const int64_t padded = weights.padded_inputs();
  const int num_blocks = weights.num_blocks();
  const int first_output = tile_idx * cpu::kTileOutputs;
  for (int t = tokens.first; t < tokens.last; t += cpu::kTileTokens) {
    const int num_tokens = std::min(cpu::kTileTokens, tokens.last - t);
    if (is_float) {
      kernels_.float_tile({.weights = values,
                           .x = input.values + t * padded,
                           .num_tokens = num_tokens,
                           .num_channels = weights.padded_inputs(),
                           .out = out});
    } else {
      const cpu::IntegerTile tile{.weights = weights.code_tile(tile_idx),
                                  .steps = weights.steps(tile_idx),
                                  .weight_scale = weights.scale(tile_idx),
                                  .codes = input.codes + t * padded,
                                  .codes_stride = padded,
                                  .block_sums = input.block_sums + int64_t{t} * num_blocks,
                                  .scale = args.x.scale.as<float>() + t,
                                  .exponent = args.x.exponent.as<int32_t>() + t,
                                  .num_tokens = num_tokens,
                                  .num_channels = weights.padded_inputs(),
                                  .num_blocks = num_blocks,
                                  .num_int4_blocks = weights.num_int4_channels() / kBlockChannels,
                                  .out = out};
      weights.kind() == WeightKind::kW4ax ? kernels_.w4_tile(tile) : kernels_.int8_tile(tile);
    }
    kernels_.finish_tile(
        {.tile = out,
         .num_tokens = num_tokens,
         .num_outputs = std::min(cpu::kTileOutputs, weights.num_outputs() - first_output),
         .bias = args.bias.is_present() ? args.bias.as<float>() + first_output : nullptr,
         .residual = ElementAt(args.residual, t, first_output),
         .residual_stride = args.residual.is_present() ? args.residual.stride(0) : 0,
         .y = ElementAt(args.y, t, first_output),
         .y_stride = args.y.stride(0),
         .is_half = args.y.dtype() == DType::kF16});
  }
}

}  // namespace comet
