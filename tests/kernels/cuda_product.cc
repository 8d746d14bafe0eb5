#include "tests/kernels/cuda_product.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/dtype.h"
#include "kernels/base/math.h"
#include "kernels/base/random.h"
#include "kernels/cuda/oracle/naive_linear.h"
#include "tests/kernels/linear_tensors.h"

namespace comet {
namespace {

constexpr uint8_t kPoison = 0xcd;

// Eight random bytes at a time: operands here have up to 10^8 elements.
template <typename T>
void FillBytes(std::vector<T>& values, uint64_t seed) {
  static_assert(sizeof(T) == 1);
  for (size_t i = 0; i < values.size(); i += 8) {
    const uint64_t bits = MixBits(seed + i / 8);
    std::memcpy(values.data() + i, &bits, std::min<size_t>(8, values.size() - i));
  }
}

template <typename T>
DeviceBuffer Upload(CudaDevice& device, const std::vector<T>& values) {
  const int64_t num_bytes = static_cast<int64_t>(values.size() * sizeof(T));
  DeviceBuffer buffer = device.Allocate(num_bytes).value();
  const Status copied = device.CopyToDevice(buffer.data(), values.data(), num_bytes);
  COMET_CHECK_MSG(copied.ok(), copied.message());
  return buffer;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const ProductCase& c) {
  return out << "kind " << static_cast<int>(c.kind) << " mode " << static_cast<int>(c.mode) << " M "
             << c.num_tokens << " N " << c.num_outputs << " K " << c.num_inputs << " int4 "
             << c.num_int4 << " " << ToString(c.dtype) << (c.packs_int4 ? " packed" : "")
             << (c.is_extreme ? " extreme" : "");
}

CudaProduct::CudaProduct(CudaDevice& device, const ProductCase& c, uint64_t seed)
    : device_(device), case_(c), format_(FormatOf(c.mode, c.num_inputs, c.num_int4)) {
  format_.packs_int4 = c.packs_int4;
  const size_t num_weights = static_cast<size_t>(c.num_outputs) * static_cast<size_t>(c.num_inputs);
  Random random(seed);
  if (c.kind == WeightKind::kW4ax) {
    codes_.resize(num_weights / 2);
    steps_.resize(static_cast<size_t>(c.num_outputs) *
                  static_cast<size_t>(CeilDiv(c.num_inputs, kBlockChannels)));
    FillBytes(steps_, random.NextBits());
    for (int8_t& step : steps_) step = static_cast<int8_t>((step & 31) - 15);
    FillBytes(codes_, random.NextBits());
    if (c.is_extreme) {
      std::fill(steps_.begin(), steps_.end(), int8_t{16});
      std::fill(codes_.begin(), codes_.end(), uint8_t{0x77});
    }
  } else {
    codes_.resize(num_weights);
    FillBytes(codes_, random.NextBits());
    for (uint8_t& code : codes_) code = code == 0x80 ? 0 : code;
  }
  scale_.resize(static_cast<size_t>(c.num_outputs));
  for (float& scale : scale_) scale = random.NextFloat(1e-5f, 1e-4f);

  x_codes_.resize(static_cast<size_t>(c.num_tokens) * static_cast<size_t>(c.num_inputs));
  FillBytes(x_codes_, random.NextBits());
  for (int t = 0; t < c.num_tokens; ++t) {
    int8_t* row = x_codes_.data() + int64_t{t} * c.num_inputs;
    int sums[2] = {0, 0};
    for (int k = 0; k < c.num_inputs; ++k) {
      const bool is_int4 = k < c.num_int4;
      if (is_int4 && c.mode == ActivationMode::kMixed) row[k] = static_cast<int8_t>(row[k] % 8);
      if (row[k] == -128) row[k] = 127;
      if (c.is_extreme) row[k] = t % 2 == 0 && !is_int4 ? 127 : 0;
      sums[is_int4 ? 1 : 0] += row[k];
    }
    x_scale_.push_back(random.NextFloat(0.001f, 0.01f));
    x_exponent_.push_back(c.is_extreme ? format_.exponent_max
                                       : random.NextInt(format_.exponent_max + 1));
    x_code_sum_.insert(x_code_sum_.end(), {sums[0], sums[1]});
  }
  device_codes_ = Upload(device, x_codes_);
  if (c.packs_int4) device_packed_codes_ = Upload(device, PackedCodes());
  device_scale_ = Upload(device, x_scale_);
  device_exponent_ = Upload(device, x_exponent_);
  device_code_sum_ = Upload(device, x_code_sum_);
  device_y_ = device.Allocate(c.num_tokens * y_row_bytes()).value();
}

W4axWeights CudaProduct::w4ax_weights() const {
  const int num_blocks = CeilDiv(case_.num_inputs, kBlockChannels);
  return {.codes = {codes_.data(), DType::kU8, {case_.num_outputs, case_.num_inputs / 2}},
          .steps = {steps_.data(), DType::kI8, {case_.num_outputs, num_blocks}},
          .scale = {scale_.data(), DType::kF32, {case_.num_outputs}},
          .num_int4_channels = case_.num_int4};
}

Int8Weights CudaProduct::int8_weights() const {
  return {.codes = {codes_.data(), DType::kI8, {case_.num_outputs, case_.num_inputs}},
          .scale = {scale_.data(), DType::kF32, {case_.num_outputs}}};
}

Result<std::unique_ptr<PackedLinear>> CudaProduct::Pack(Ops& ops) const {
  return case_.kind == WeightKind::kW4ax ? ops.PackLinear(w4ax_weights())
                                         : ops.PackLinear(int8_weights());
}

Result<std::unique_ptr<PackedLinear>> CudaProduct::PackNaive() const {
  return case_.kind == WeightKind::kW4ax ? cuda::MakeNaiveLinear(device_, w4ax_weights())
                                         : cuda::MakeNaiveLinear(device_, int8_weights());
}

LinearInput CudaProduct::InputAt(void* codes, void* scale, void* exponent, void* code_sum,
                                 int num_tokens) const {
  return {.format = format_,
          .codes = {codes, DType::kI8, {num_tokens, case_.num_inputs}},
          .scale = {scale, DType::kF32, {num_tokens}},
          .exponent = {exponent, DType::kI32, {num_tokens}},
          .code_sum = {code_sum, DType::kI32, {num_tokens, 2}}};
}

LinearArgs CudaProduct::HostArgs(const PackedLinear& weights, std::vector<uint8_t>& y) const {
  y.assign(static_cast<size_t>(case_.num_tokens * y_row_bytes()), kPoison);
  const auto mutable_data = [](const auto& values) {
    return const_cast<void*>(static_cast<const void*>(values.data()));
  };
  return {.y = {y.data(), case_.dtype, {case_.num_tokens, case_.num_outputs}},
          .x = InputAt(mutable_data(x_codes_), mutable_data(x_scale_), mutable_data(x_exponent_),
                       mutable_data(x_code_sum_), case_.num_tokens),
          .weights = &weights};
}

float CudaProduct::OutputAt(int token, int output) const {
  const int8_t* x_row = x_codes_.data() + int64_t{token} * case_.num_inputs;
  int64_t sums[2] = {0, 0};
  for (int k = 0; k < case_.num_inputs; ++k) {
    int weight = 0;
    if (case_.kind == WeightKind::kW4ax) {
      const int num_blocks = CeilDiv(case_.num_inputs, kBlockChannels);
      const int byte =
          codes_[static_cast<size_t>(int64_t{output} * (case_.num_inputs / 2) + k / 2)];
      const int nibble = k % 2 == 0 ? byte & 0xf : byte >> 4;
      weight = (nibble ^ 8) - 8;
      weight *= steps_[static_cast<size_t>(int64_t{output} * num_blocks + k / kBlockChannels)];
    } else {
      weight =
          static_cast<int8_t>(codes_[static_cast<size_t>(int64_t{output} * case_.num_inputs + k)]);
    }
    sums[k < case_.num_int4 ? 1 : 0] += weight * x_row[k];
  }
  const size_t t = static_cast<size_t>(token);
  const int64_t sum = sums[0] * (int64_t{1} << x_exponent_[t]) + sums[1];
  return static_cast<float>(static_cast<int32_t>(sum)) *
         (scale_[static_cast<size_t>(output)] * x_scale_[t]);
}

std::vector<int8_t> CudaProduct::PackedCodes() const {
  std::vector<int8_t> packed = x_codes_;
  for (int t = 0; t < case_.num_tokens; ++t) {
    const int8_t* row = x_codes_.data() + int64_t{t} * case_.num_inputs;
    int8_t* packed_row = packed.data() + int64_t{t} * case_.num_inputs;
    std::fill_n(packed_row, case_.num_int4, int8_t{0});
    for (int k = 0; k < case_.num_int4; ++k) {
      const PackedInt4 place = PackedInt4Of(k);
      packed_row[place.byte] |= static_cast<int8_t>((row[k] & 0xf) << place.shift);
    }
  }
  return packed;
}

LinearArgs CudaProduct::DeviceArgs(const PackedLinear& weights, int num_tokens) {
  const std::vector<uint8_t> poison(static_cast<size_t>(device_y_.num_bytes()), kPoison);
  const Status copied =
      device_.CopyToDevice(device_y_.data(), poison.data(), device_y_.num_bytes());
  COMET_CHECK_MSG(copied.ok(), copied.message());
  return DeviceArgsUnpoisoned(weights, num_tokens);
}

LinearArgs CudaProduct::OracleArgs(const PackedLinear& weights, int num_tokens) {
  return OracleForm(DeviceArgs(weights, num_tokens));
}

LinearArgs CudaProduct::OracleForm(LinearArgs args) const {
  args.x.codes = TensorView(device_codes_.data(), DType::kI8, args.x.codes.shape());
  args.x.format.packs_int4 = false;
  return args;
}

LinearArgs CudaProduct::DeviceArgsUnpoisoned(const PackedLinear& weights, int num_tokens) {
  return {.y = {device_y_.data(), case_.dtype, {num_tokens, case_.num_outputs}},
          .x = InputAt(case_.packs_int4 ? device_packed_codes_.data() : device_codes_.data(),
                       device_scale_.data(), device_exponent_.data(), device_code_sum_.data(),
                       num_tokens),
          .weights = &weights};
}

std::vector<uint8_t> CudaProduct::DownloadY(int num_tokens) {
  std::vector<uint8_t> y(static_cast<size_t>(num_tokens * y_row_bytes()));
  const Status copied =
      device_.CopyToHost(y.data(), device_y_.data(), static_cast<int64_t>(y.size()));
  COMET_CHECK_MSG(copied.ok(), copied.message());
  return y;
}

DeviceBuffer CudaProduct::UploadBias() {
  std::vector<float> bias(static_cast<size_t>(case_.num_outputs));
  for (size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i % 7) - 3.0f;
  const int64_t num_bytes = case_.num_outputs * BytesOf(DType::kF32);
  DeviceBuffer device_bias = device_.Allocate(num_bytes).value();
  const Status copied = device_.CopyToDevice(device_bias.data(), bias.data(), num_bytes);
  COMET_CHECK_MSG(copied.ok(), copied.message());
  return device_bias;
}

Result<std::vector<uint8_t>> CudaProduct::AddTo(const PackedLinear& naive, LinearArgs args,
                                                const RunLinear& run) {
  const DeviceBuffer bias = UploadBias();
  COMET_RETURN_IF_ERROR(cuda::NaiveLinear(device_, OracleArgs(naive, case_.num_tokens)));
  args.residual = args.y;
  args.bias = ConstTensorView(bias.data(), DType::kF32, {case_.num_outputs});
  COMET_RETURN_IF_ERROR(run(args));
  return DownloadY(case_.num_tokens);
}

Result<std::vector<uint8_t>> CudaProduct::AddInPlace(const PackedLinear& naive,
                                                     const PackedLinear& weights,
                                                     const RunLinear& run) {
  return AddTo(naive, DeviceArgsUnpoisoned(weights, case_.num_tokens), run);
}

Result<std::vector<uint8_t>> CudaProduct::AddInPlaceByOracle(const PackedLinear& naive) {
  return AddTo(naive, OracleForm(DeviceArgsUnpoisoned(naive, case_.num_tokens)),
               [&](const LinearArgs& args) { return cuda::NaiveLinear(device_, args); });
}

}  // namespace comet
