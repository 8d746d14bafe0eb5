#include "kernels/cuda/unit_linear.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/cuda/random_rows.h"

namespace comet::cuda {
namespace {

cudaStream_t StreamOf(const StagedUpload& upload) {
  return static_cast<cudaStream_t>(upload.device().stream().handle());
}

}  // namespace

// Outputs [first, first + count) as a buffer holds them: their rows of codes, then of steps.
struct UnitLinear::Piece {
  int first = 0;
  int count = 0;
  int64_t codes_bytes = 0;
  int64_t steps_bytes = 0;
};

int UnitLinear::num_unit_rows() const { return CeilDiv(num_outputs_, kUnitOutputs); }
int UnitLinear::num_blocks() const { return CeilDiv(num_inputs_, kUnitChannels); }

Status UnitLinear::Allocate(Device& device) {
  COMET_ASSIGN_OR_RETURN(units_,
                         device.Allocate(int64_t{num_unit_rows()} * num_blocks() * kUnitBytes));
  COMET_ASSIGN_OR_RETURN(
      scale_, device.Allocate(int64_t{num_unit_rows()} * kUnitOutputs * BytesOf(DType::kF32)));
  return Status::Ok();
}

UnitLinear::Piece UnitLinear::PieceAt(int first_output) const {
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

Status UnitLinear::PackPiece(StagedUpload& upload, const Piece& piece) {
  const auto* const rows = static_cast<const uint8_t*>(upload.device_buffer());
  const int64_t first_unit = int64_t{piece.first / kUnitOutputs} * num_blocks();
  return pack_units_({.units = static_cast<uint8_t*>(units_.data()) + first_unit * kUnitBytes,
                      .codes = rows,
                      .steps = reinterpret_cast<const int8_t*>(rows + piece.codes_bytes),
                      .num_outputs = piece.count,
                      .num_inputs = num_inputs_,
                      .num_int4_channels = num_int4_channels_},
                     StreamOf(upload));
}

Status UnitLinear::Fill(StagedUpload& upload, const W4axWeights& weights) {
  COMET_RETURN_IF_ERROR(Allocate(upload.device()));
  Piece piece;
  for (int first = 0; first < num_outputs_; first += piece.count) {
    piece = PieceAt(first);
    COMET_CHECK_MSG(piece.count > 0, "64 rows do not fit the upload's buffer");
    COMET_ASSIGN_OR_RETURN(std::byte* const buffer, upload.NextBuffer());
    StagedUpload::Fill(buffer, weights.codes.Rows(first, piece.count).data(), piece.codes_bytes);
    StagedUpload::Fill(buffer + piece.codes_bytes, weights.steps.Rows(first, piece.count).data(),
                       piece.steps_bytes);
    COMET_RETURN_IF_ERROR(
        upload.Send(upload.device_buffer(), piece.codes_bytes + piece.steps_bytes));
    COMET_RETURN_IF_ERROR(PackPiece(upload, piece));
  }
  COMET_RETURN_IF_ERROR(upload.device().FillZero(scale_.data(), scale_.num_bytes()));
  COMET_RETURN_IF_ERROR(upload.Copy(scale_.data(), weights.scale.data(),
                                    int64_t{num_outputs_} * BytesOf(DType::kF32)));
  return Status::Ok();
}

Status UnitLinear::FillRandom(StagedUpload& upload, const RandomLinear& linear) {
  COMET_RETURN_IF_ERROR(Allocate(upload.device()));
  const cudaStream_t stream = StreamOf(upload);
  auto* const codes = static_cast<uint8_t*>(upload.device_buffer());
  const int num_blocks = this->num_blocks();
  Piece piece;
  for (int first = 0; first < num_outputs_; first += piece.count) {
    piece = PieceAt(first);
    COMET_CHECK_MSG(piece.count > 0, "64 rows do not fit the upload's buffer");
    RandomRows rows{.seed = linear.seed,
                    .first_row = first,
                    .num_rows = piece.count,
                    .num_columns = linear.num_inputs / 2,
                    .row_stride = linear.num_inputs / 2};
    COMET_RETURN_IF_ERROR(FillRandomCodePairs(codes, rows, stream));
    rows.num_columns = num_blocks;
    rows.row_stride = num_blocks;
    COMET_RETURN_IF_ERROR(
        FillRandomSteps(reinterpret_cast<int8_t*>(codes + piece.codes_bytes), rows, stream));
    COMET_RETURN_IF_ERROR(PackPiece(upload, piece));
  }
  COMET_RETURN_IF_ERROR(FillRandomScales(static_cast<float*>(scale_.data()),
                                         {.seed = linear.seed,
                                          .num_rows = 1,
                                          .num_columns = num_outputs_,
                                          .row_stride = int64_t{num_unit_rows()} * kUnitOutputs},
                                         random_linear::ScaleUnit(linear), stream));
  return Status::Ok();
}

}  // namespace comet::cuda
