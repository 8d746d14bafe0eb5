#include "engine/loader/packed_format.h"

#include <initializer_list>
#include <vector>

#include "engine/model/model_config.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// A string key that may be absent, or else must be one of some values.
Status RequireOneOf(const JsonReader& reader, std::string_view key,
                    std::initializer_list<std::string_view> expected) {
  if (!reader.Has(key)) return Status::Ok();
  COMET_ASSIGN_OR_RETURN(const std::string value, reader.String(key));
  std::string names;
  for (const std::string_view one : expected) {
    if (value == one) return Status::Ok();
    names += StrCat(names.empty() ? "" : " or ", "\"", one, "\"");
  }
  return Unimplemented(
      StrCat(reader.where(), ".", key, ": is \"", value.substr(0, 60), "\", expected ", names));
}

Status RequireFourBits(const JsonReader& reader, std::string_view key) {
  COMET_ASSIGN_OR_RETURN(const int64_t bits, reader.Int(key, 1, 64));
  if (bits == 4) return Status::Ok();
  return Unimplemented(StrCat(reader.where(), ".", key, ": is ", bits, ", expected 4"));
}

Status ReadGroupSize(const JsonReader& reader, int& group_size) {
  COMET_ASSIGN_OR_RETURN(const int64_t value, reader.Int("group_size", -1, kModelDimMax));
  if (value == 0) {
    return DataLoss(StrCat(reader.where(), ".group_size: is 0, expected -1 or at least 1"));
  }
  group_size = static_cast<int>(value);
  return Status::Ok();
}

Status RequireAbsent(const JsonReader& reader, std::string_view key, std::string_view what) {
  if (!reader.Has(key)) return Status::Ok();
  return Unimplemented(StrCat(reader.where(), ".", key, ": is there, expected ", what));
}

Status ParseCompressedTensors(const JsonReader& reader, PackedFormat& format) {
  COMET_RETURN_IF_ERROR(RequireOneOf(reader, "format", {"pack-quantized"}));
  if (reader.Has("transform_config")) {
    COMET_ASSIGN_OR_RETURN(const JsonReader transforms, reader.Object("transform_config"));
    COMET_RETURN_IF_ERROR(RequireAbsent(transforms, "config_groups", "untransformed weights"));
  }
  COMET_ASSIGN_OR_RETURN(const JsonReader groups, reader.Object("config_groups"));
  const std::vector<std::string> names = groups.Keys();
  if (names.size() != 1) {
    return Unimplemented(
        StrCat(groups.where(), ": has ", names.size(), " entries, expected one for all layers"));
  }
  COMET_ASSIGN_OR_RETURN(const JsonReader group, groups.Object(names.front()));
  COMET_RETURN_IF_ERROR(RequireAbsent(group, "input_activations", "16-bit activations"));
  COMET_ASSIGN_OR_RETURN(const JsonReader weights, group.Object("weights"));
  COMET_RETURN_IF_ERROR(RequireFourBits(weights, "num_bits"));
  COMET_RETURN_IF_ERROR(RequireOneOf(weights, "type", {"int"}));
  COMET_RETURN_IF_ERROR(RequireOneOf(weights, "strategy", {"group", "channel"}));
  format.group_size = -1;
  if (weights.Has("group_size")) COMET_RETURN_IF_ERROR(ReadGroupSize(weights, format.group_size));
  if (weights.Has("symmetric")) {
    COMET_ASSIGN_OR_RETURN(format.is_symmetric, weights.Bool("symmetric"));
  }
  return Status::Ok();
}

Status ParseAwq(const JsonReader& reader, PackedFormat& format) {
  COMET_RETURN_IF_ERROR(RequireFourBits(reader, "bits"));
  COMET_RETURN_IF_ERROR(RequireOneOf(reader, "version", {"gemm", "GEMM"}));
  return ReadGroupSize(reader, format.group_size);
}

Status ParseGptq(const JsonReader& reader, PackedFormat& format) {
  COMET_RETURN_IF_ERROR(RequireFourBits(reader, "bits"));
  COMET_RETURN_IF_ERROR(RequireOneOf(reader, "checkpoint_format", {"gptq", "gptq_v2"}));
  format.zeros_are_less_one = true;
  if (reader.Has("checkpoint_format")) {
    COMET_ASSIGN_OR_RETURN(const std::string version, reader.String("checkpoint_format"));
    format.zeros_are_less_one = version == "gptq";
  }
  return ReadGroupSize(reader, format.group_size);
}

}  // namespace

std::string_view ToString(PackedMethod method) {
  switch (method) {
    case PackedMethod::kNone: return "none";
    case PackedMethod::kAwq: return "awq";
    case PackedMethod::kGptq: return "gptq";
    case PackedMethod::kCompressedTensors: return "compressed-tensors";
  }
  return "?";
}

Result<PackedFormat> ParsePackedFormat(const JsonReader& quantization) {
  PackedFormat format;
  COMET_ASSIGN_OR_RETURN(const std::string method, quantization.String("quant_method"));
  if (method == "awq") {
    format.method = PackedMethod::kAwq;
    COMET_RETURN_IF_ERROR(ParseAwq(quantization, format));
  } else if (method == "gptq") {
    format.method = PackedMethod::kGptq;
    COMET_RETURN_IF_ERROR(ParseGptq(quantization, format));
  } else if (method == "compressed-tensors") {
    format.method = PackedMethod::kCompressedTensors;
    COMET_RETURN_IF_ERROR(ParseCompressedTensors(quantization, format));
  } else if (method == "comet") {
    return Unimplemented(StrCat(quantization.where(),
                                ".quant_method: is \"comet\", a checkpoint that is quantised "
                                "already, expected a source of float weights"));
  } else {
    return Unimplemented(StrCat(quantization.where(), ".quant_method: is \"", method.substr(0, 60),
                                "\", expected awq, gptq or compressed-tensors"));
  }
  return format;
}

}  // namespace comet
