#include "kernels/cuda/sm90_linear.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/cuda/random_rows.h"
#include "kernels/cuda/sm90_pack.h"
#include "kernels/cuda/sm90_w4ax_layout.h"

namespace comet::sm90 {
namespace {

using cuda::StagedUpload;

cudaStream_t StreamOf(const StagedUpload& upload) {
  return static_cast<cudaStream_t>(upload.device().stream().handle());
}

}  // namespace

// Outputs [first, first + count) as a buffer holds them: their rows of codes, then of steps.
struct W4axLinear::Piece {
  int first = 0;
  int count = 0;
  int64_t codes_bytes = 0;
  int64_t steps_bytes = 0;
};

int W4axLinear::num_unit_rows() const { return CeilDiv(num_outputs_, kUnitOutputs); }
int W4axLinear::num_blocks() const { return CeilDiv(num_inputs_, kUnitChannels); }

Status W4axLinear::Allocate(Device& device) {
  COMET_ASSIGN_OR_RETURN(units_,
                         device.Allocate(int64_t{num_unit_rows()} * num_blocks() * kUnitBytes));
  COMET_ASSIGN_OR_RETURN(
      scale_, device.Allocate(int64_t{num_unit_rows()} * kUnitOutputs * BytesOf(DType::kF32)));
  return Status::Ok();
}

W4axLinear::Piece W4axLinear::PieceAt(int first_output) const {
  const int64_t row_bytes = num_inputs_ / 2 + num_blocks();
  const int64_t fitting = StagedUpload::kBufferBytes / row_bytes / kUnitOutputs * kUnitOutputs;
  Piece piece;
  piece.first = first_output;
  const int64_t left = num_outputs_ - first_output;
  piece.count = static_cast<int>(std::min(left, fitting));
  piece.codes_bytes = int64_t{piece.count} * (num_inputs_ / 2);
  piece.steps_bytes = int64_t{piece.count} * num_blocks();
  return piece;
}

Status W4axLinear::PackPiece(StagedUpload& upload, const Piece& piece) {
  const auto* const rows = static_cast<const uint8_t*>(upload.device_buffer());
  const int64_t first_unit = int64_t{piece.first / kUnitOutputs} * num_blocks();
  return PackUnits({.units = static_cast<uint8_t*>(units_.data()) + first_unit * kUnitBytes,
                    .codes = rows,
                    .steps = reinterpret_cast<const int8_t*>(rows + piece.codes_bytes),
                    .num_outputs = piece.count,
                    .num_inputs = num_inputs_,
                    .num_int4_channels = num_int4_channels_},
                   StreamOf(upload));
}

Result<std::unique_ptr<W4axLinear>> W4axLinear::Pack(StagedUpload& upload,
                                                     const W4axWeights& weights) {
  std::unique_ptr<W4axLinear> packed(
      new W4axLinear(weights.codes.dim(0), 2 * weights.codes.dim(1), weights.num_int4_channels));
  COMET_RETURN_IF_ERROR(packed->Allocate(upload.device()));
  Piece piece;
  for (int first = 0; first < packed->num_outputs_; first += piece.count) {
    piece = packed->PieceAt(first);
    COMET_CHECK_MSG(piece.count > 0, "64 rows do not fit the upload's buffer");
    COMET_ASSIGN_OR_RETURN(std::byte* const buffer, upload.NextBuffer());
    StagedUpload::Fill(buffer, weights.codes.Rows(first, piece.count).data(), piece.codes_bytes);
    StagedUpload::Fill(buffer + piece.codes_bytes, weights.steps.Rows(first, piece.count).data(),
                       piece.steps_bytes);
    COMET_RETURN_IF_ERROR(
        upload.Send(upload.device_buffer(), piece.codes_bytes + piece.steps_bytes));
    COMET_RETURN_IF_ERROR(packed->PackPiece(upload, piece));
  }
  COMET_RETURN_IF_ERROR(
      upload.device().FillZero(packed->scale_.data(), packed->scale_.num_bytes()));
  COMET_RETURN_IF_ERROR(upload.Copy(packed->scale_.data(), weights.scale.data(),
                                    int64_t{packed->num_outputs_} * BytesOf(DType::kF32)));
  return packed;
}

Result<std::unique_ptr<W4axLinear>> W4axLinear::PackRandom(StagedUpload& upload,
                                                           const RandomLinear& linear) {
  std::unique_ptr<W4axLinear> packed(
      new W4axLinear(linear.num_outputs, linear.num_inputs, linear.num_int4_channels));
  COMET_RETURN_IF_ERROR(packed->Allocate(upload.device()));
  const cudaStream_t stream = StreamOf(upload);
  auto* const codes = static_cast<uint8_t*>(upload.device_buffer());
  const int num_blocks = packed->num_blocks();
  Piece piece;
  for (int first = 0; first < packed->num_outputs_; first += piece.count) {
    piece = packed->PieceAt(first);
    COMET_CHECK_MSG(piece.count > 0, "64 rows do not fit the upload's buffer");
    cuda::RandomRows rows{.seed = linear.seed,
                          .first_row = first,
                          .num_rows = piece.count,
                          .num_columns = linear.num_inputs / 2,
                          .row_stride = linear.num_inputs / 2};
    COMET_RETURN_IF_ERROR(cuda::FillRandomCodePairs(codes, rows, stream));
    rows.num_columns = num_blocks;
    rows.row_stride = num_blocks;
    COMET_RETURN_IF_ERROR(
        cuda::FillRandomSteps(reinterpret_cast<int8_t*>(codes + piece.codes_bytes), rows, stream));
    COMET_RETURN_IF_ERROR(packed->PackPiece(upload, piece));
  }
  COMET_RETURN_IF_ERROR(
      cuda::FillRandomScales(static_cast<float*>(packed->scale_.data()),
                             {.seed = linear.seed,
                              .num_rows = 1,
                              .num_columns = packed->num_outputs_,
                              .row_stride = int64_t{packed->num_unit_rows()} * kUnitOutputs},
                             random_linear::ScaleUnit(linear), stream));
  return packed;
}

}  // namespace comet::sm90
