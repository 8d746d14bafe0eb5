#include "kernels/cpu/packed_linear.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/float_element.h"
#include "kernels/base/math.h"
#include "kernels/cpu/kernel_table.h"

namespace comet::cpu {
namespace {

constexpr int kLineBytes = 64;  // Sixteen outputs times four bytes.

// Where byte `j` of output `n` (within its tile) of chunk `chunk_idx` lies in the tile.
int64_t CodeOffset(int chunk_idx, int n, int j) {
  return int64_t{chunk_idx} * (2 * kLineBytes) + n / kLanes * kLineBytes + n % kLanes * 4 + j;
}

// v + 8 of channel k of a row; channels past K are 0.
uint8_t BiasedNibble(const uint8_t* row_codes, int k, int num_inputs) {
  constexpr int kBias = 8;  // Flipping bit 3 of a two's complement nibble adds it.
  if (k >= num_inputs) return kBias;
  const int nibble = (row_codes[k / 2] >> (k % 2 == 0 ? 0 : 4)) & 0xf;
  return static_cast<uint8_t>(nibble ^ kBias);
}

// `row` has room for `num_padded` elements.
template <typename T>
void CopyPadded(const T* values, int num_values, int num_padded, T* row) {
  std::copy_n(values, num_values, row);
  std::fill(row + num_values, row + num_padded, T{});
}

// Calls pack(output) for all of them, those of a tile by one thread.
template <typename Fn>
void ForOutputs(ThreadPool& pool, int num_outputs, const Fn& pack) {
  pool.ParallelFor(CeilDiv(num_outputs, kTileOutputs), [&](int tile_idx, int) {
    const int last = std::min((tile_idx + 1) * kTileOutputs, num_outputs);
    for (int output = tile_idx * kTileOutputs; output < last; ++output) pack(output);
  });
}

}  // namespace

Status CpuLinear::Allocate(Device& device) {
  COMET_ASSIGN_OR_RETURN(tiles_, device.Allocate(num_tiles_ * tile_bytes_));
  if (kind_ == WeightKind::kFloat) return Status::Ok();  // Every byte is written.
  COMET_RETURN_IF_ERROR(device.FillZero(tiles_.data(), tiles_.num_bytes()));
  const int64_t num_padded_outputs = int64_t{num_tiles_} * kTileOutputs;
  COMET_ASSIGN_OR_RETURN(scale_, device.Allocate(num_padded_outputs * BytesOf(DType::kF32)));
  COMET_RETURN_IF_ERROR(device.FillZero(scale_.data(), scale_.num_bytes()));
  if (kind_ == WeightKind::kInt8) return Status::Ok();
  COMET_ASSIGN_OR_RETURN(steps_, device.Allocate(num_padded_outputs * num_blocks_));
  return device.FillZero(steps_.data(), steps_.num_bytes());
}

Result<std::unique_ptr<PackedLinear>> CpuLinear::Pack(Device& device, ThreadPool& pool,
                                                      const W4axWeights& weights) {
  COMET_RETURN_IF_ERROR(Validate(weights));
  std::unique_ptr<CpuLinear> packed(new CpuLinear);
  packed->kind_ = WeightKind::kW4ax;
  packed->num_outputs_ = weights.codes.dim(0);
  packed->num_inputs_ = 2 * weights.codes.dim(1);
  packed->num_int4_channels_ = weights.num_int4_channels;
  packed->num_tiles_ = CeilDiv(packed->num_outputs_, kTileOutputs);
  packed->num_blocks_ = weights.steps.dim(1);
  packed->padded_inputs_ = AlignUp(packed->num_inputs_, kChunkChannels);
  packed->tile_bytes_ = int64_t{kTileOutputs} * packed->padded_inputs_ / 2;
  COMET_RETURN_IF_ERROR(packed->Allocate(device));

  ForOutputs(pool, packed->num_outputs_, [&](int output) {
    const int tile_idx = output / kTileOutputs;
    const int n = output % kTileOutputs;
    const uint8_t* codes = weights.codes.as<uint8_t>() + int64_t{output} * weights.codes.dim(1);
    uint8_t* tile = static_cast<uint8_t*>(packed->tiles_.data()) + tile_idx * packed->tile_bytes_;
    for (int chunk = 0; chunk < packed->padded_inputs_ / kChunkChannels; ++chunk) {
      for (int j = 0; j < 4; ++j) {
        const int k = chunk * kChunkChannels + j;
        const int low = BiasedNibble(codes, k, packed->num_inputs_);
        const int high = BiasedNibble(codes, k + 4, packed->num_inputs_);
        tile[CodeOffset(chunk, n, j)] = static_cast<uint8_t>(low | high << 4);
      }
    }
    const int8_t* steps = weights.steps.as<int8_t>() + int64_t{output} * packed->num_blocks_;
    int8_t* tile_steps = const_cast<int8_t*>(packed->steps(tile_idx));
    for (int b = 0; b < packed->num_blocks_; ++b) tile_steps[b * kTileOutputs + n] = steps[b];
    static_cast<float*>(packed->scale_.data())[output] = weights.scale.as<float>()[output];
  });
  return std::unique_ptr<PackedLinear>(std::move(packed));
}

Result<std::unique_ptr<PackedLinear>> CpuLinear::Pack(Device& device, ThreadPool& pool,
                                                      const Int8Weights& weights) {
  constexpr int kChunk = 4;
  constexpr int kBias = 128;
  constexpr uint32_t kBiases = 0x80808080;  // Flipping the highest bits of a chunk adds it.
  COMET_RETURN_IF_ERROR(Validate(weights));
  std::unique_ptr<CpuLinear> packed(new CpuLinear);
  packed->kind_ = WeightKind::kInt8;
  packed->num_outputs_ = weights.codes.dim(0);
  packed->num_inputs_ = weights.codes.dim(1);
  packed->num_tiles_ = CeilDiv(packed->num_outputs_, kTileOutputs);
  packed->padded_inputs_ = AlignUp(packed->num_inputs_, kChunkChannels);
  packed->tile_bytes_ = int64_t{kTileOutputs} * packed->padded_inputs_;
  COMET_RETURN_IF_ERROR(packed->Allocate(device));

  ForOutputs(pool, packed->num_outputs_, [&](int output) {
    const int n = output % kTileOutputs;
    const int8_t* codes = weights.codes.as<int8_t>() + int64_t{output} * packed->num_inputs_;
    uint8_t* tile =
        static_cast<uint8_t*>(packed->tiles_.data()) + output / kTileOutputs * packed->tile_bytes_;
    const int whole = packed->num_inputs_ / kChunk * kChunk;
    for (int k = 0; k < whole; k += kChunk) {
      uint32_t chunk;
      std::memcpy(&chunk, codes + k, kChunk);
      chunk ^= kBiases;
      std::memcpy(tile + CodeOffset(k / kChunk, n, 0), &chunk, kChunk);
    }
    for (int k = whole; k < packed->num_inputs_; ++k) {
      tile[CodeOffset(k / kChunk, n, k % kChunk)] = static_cast<uint8_t>(codes[k] + kBias);
    }
    static_cast<float*>(packed->scale_.data())[output] = weights.scale.as<float>()[output];
  });
  return std::unique_ptr<PackedLinear>(std::move(packed));
}

Result<std::unique_ptr<PackedLinear>> CpuLinear::Pack(Device& device, ThreadPool& pool,
                                                      const FloatWeights& weights) {
  COMET_RETURN_IF_ERROR(Validate(weights));
  std::unique_ptr<CpuLinear> packed(new CpuLinear);
  packed->kind_ = WeightKind::kFloat;
  packed->num_outputs_ = weights.values.dim(0);
  packed->num_inputs_ = weights.values.dim(1);
  packed->num_tiles_ = CeilDiv(packed->num_outputs_, kTileOutputs);
  packed->padded_inputs_ = AlignUp(packed->num_inputs_, kLanes);
  packed->is_half_ = weights.values.dtype() == DType::kF16;
  packed->tile_bytes_ = int64_t{kTileOutputs} * packed->padded_inputs_ *
                        BytesOf(packed->is_half_ ? DType::kF16 : DType::kF32);
  COMET_RETURN_IF_ERROR(packed->Allocate(device));

  const int num_padded = packed->padded_inputs_;
  ForOutputs(pool, packed->num_tiles_ * kTileOutputs, [&](int output) {
    const int num_values = output < packed->num_outputs_ ? packed->num_inputs_ : 0;
    const int64_t source = num_values > 0 ? output * weights.values.stride(0) : 0;
    const int64_t target = int64_t{output} * num_padded;
    if (packed->is_half_) {
      CopyPadded(weights.values.as<Half>() + source, num_values, num_padded,
                 static_cast<Half*>(packed->tiles_.data()) + target);
      return;
    }
    float* row = static_cast<float*>(packed->tiles_.data()) + target;
    if (weights.values.dtype() == DType::kF32) {
      CopyPadded(weights.values.as<float>() + source, num_values, num_padded, row);
      return;
    }
    for (int k = 0; k < num_values; ++k) row[k] = FloatAt(weights.values, source + k);
    std::fill(row + num_values, row + num_padded, 0.0f);
  });
  return std::unique_ptr<PackedLinear>(std::move(packed));
}

const CpuLinear& CpuLinear::Unpack(const PackedLinear& weights) {
  const auto* packed = dynamic_cast<const CpuLinear*>(&weights);
  COMET_CHECK_MSG(packed != nullptr, "weights were packed by another back end");
  return *packed;
}

const int8_t* CpuLinear::steps(int tile_idx) const {
  return static_cast<const int8_t*>(steps_.data()) + int64_t{tile_idx} * num_blocks_ * kTileOutputs;
}

const float* CpuLinear::scale(int tile_idx) const {
  return static_cast<const float*>(scale_.data()) + int64_t{tile_idx} * kTileOutputs;
}

const uint16_t* CpuLinear::half_row(int output_idx) const {
  COMET_CHECK(is_half_ && output_idx >= 0 && output_idx < num_outputs_);
  return half_tile(output_idx / kTileOutputs) + int64_t{output_idx % kTileOutputs} * padded_inputs_;
}

void CpuLinear::CopyRow(int output_idx, float* out) const {
  COMET_CHECK(output_idx >= 0 && output_idx < num_outputs_ && !is_half_);
  const int tile_idx = output_idx / kTileOutputs;
  const int n = output_idx % kTileOutputs;
  if (kind_ == WeightKind::kFloat) {
    const float* row = float_tile(tile_idx) + int64_t{n} * padded_inputs_;
    std::memcpy(out, row, static_cast<size_t>(num_inputs_) * sizeof(float));
    return;
  }
  COMET_CHECK(kind_ == WeightKind::kInt8);
  const uint8_t* tile = code_tile(tile_idx);
  const float row_scale = scale(tile_idx)[n];
  for (int k = 0; k < num_inputs_; ++k) {
    const int code = tile[CodeOffset(k / 4, n, k % 4)] - 128;
    out[k] = row_scale * static_cast<float>(code);
  }
}

}  // namespace comet::cpu
