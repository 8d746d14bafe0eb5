#include "tests/kernels/host_tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr std::byte kGuard{0xa5};

}  // namespace

HostTensor::HostTensor(DType dtype, std::initializer_list<int> dims, int row_padding)
    : dtype_(dtype), shape_(dims) {
  if (row_padding > 0) {
    COMET_CHECK(shape_.rank() == 2);
    shape_.set_stride(0, shape_.dim(1) + row_padding);
  }
  const int64_t num_elements =
      shape_.rank() == 2 ? shape_.dim(0) * shape_.stride(0) : shape_.num_elements();
  bytes_.assign(static_cast<size_t>(2 * kGuardBytes + num_elements * BytesOf(dtype)), kGuard);
}

HostTensor HostTensor::OfInts(const std::vector<int32_t>& values) {
  HostTensor tensor(DType::kI32, {static_cast<int>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) tensor.Set(0, static_cast<int>(i), values[i]);
  return tensor;
}

HostTensor HostTensor::OfFloats(const std::vector<float>& values) {
  HostTensor tensor(DType::kF32, {static_cast<int>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) {
    tensor.Set(0, static_cast<int>(i), static_cast<double>(values[i]));
  }
  return tensor;
}

TensorView HostTensor::view() { return {bytes_.data() + kGuardBytes, dtype_, shape_}; }

size_t HostTensor::OffsetOf(int i, int j) const {
  const int64_t element = (shape_.rank() == 2 ? i * shape_.stride(0) : 0) + j;
  return static_cast<size_t>(kGuardBytes + element * BytesOf(dtype_));
}

double HostTensor::At(int i, int j) const {
  const std::byte* source = bytes_.data() + OffsetOf(i, j);
  const auto load = [&]<typename T>(T value) {
    std::memcpy(&value, source, sizeof(value));
    return value;
  };
  switch (dtype_) {
    case DType::kF32: return static_cast<double>(load(float{}));
    case DType::kF16: return static_cast<double>(ToFloat(load(Half{})));
    case DType::kBf16: return static_cast<double>(ToFloat(load(Bfloat16{})));
    case DType::kI32: return load(int32_t{});
    case DType::kI8: return load(int8_t{});
    case DType::kU8: return load(uint8_t{});
  }
  return 0;
}

void HostTensor::Set(int i, int j, double value) {
  std::byte* destination = bytes_.data() + OffsetOf(i, j);
  const auto store = [&](auto stored) { std::memcpy(destination, &stored, sizeof(stored)); };
  switch (dtype_) {
    case DType::kF32: return store(static_cast<float>(value));
    case DType::kF16: return store(HalfFromFloat(static_cast<float>(value)));
    case DType::kBf16: return store(Bfloat16FromFloat(static_cast<float>(value)));
    case DType::kI32: return store(static_cast<int32_t>(value));
    case DType::kI8: return store(static_cast<int8_t>(value));
    case DType::kU8: return store(static_cast<uint8_t>(value));
  }
}

void HostTensor::FillUniform(Random& random, float low, float high) {
  for (int i = 0; i < num_rows(); ++i) {
    for (int j = 0; j < num_columns(); ++j) {
      const float value = random.NextFloat(low, high);
      const bool is_integer = dtype_ == DType::kI8 || dtype_ == DType::kU8 || dtype_ == DType::kI32;
      Set(i, j, static_cast<double>(is_integer ? std::floor(value) : value));
    }
  }
}

void HostTensor::FillNormal(Random& random, float scale) {
  for (int i = 0; i < num_rows(); ++i) {
    for (int j = 0; j < num_columns(); ++j) {
      Set(i, j, static_cast<double>(scale * random.NextNormal()));
    }
  }
}

bool HostTensor::GuardsAreIntact() const {
  const auto is_guard = [](std::byte byte) { return byte == kGuard; };
  const size_t row_bytes = static_cast<size_t>(num_columns() * BytesOf(dtype_));
  auto gap = bytes_.begin();
  for (int i = 0; i < num_rows(); ++i) {
    const auto row = bytes_.begin() + static_cast<std::ptrdiff_t>(OffsetOf(i, 0));
    if (!std::all_of(gap, row, is_guard)) return false;
    gap = row + static_cast<std::ptrdiff_t>(row_bytes);
  }
  return std::all_of(gap, bytes_.end(), is_guard);
}

std::vector<std::byte> HostTensor::ElementBytes() const {
  std::vector<std::byte> out;
  const int64_t row_bytes = int64_t{num_columns()} * BytesOf(dtype_);
  for (int i = 0; i < num_rows(); ++i) {
    const std::byte* row = bytes_.data() + OffsetOf(i, 0);
    out.insert(out.end(), row, row + row_bytes);
  }
  return out;
}

std::string DifferenceOf(const HostTensor& actual, const HostTensor& expected) {
  const std::vector<std::byte> a = actual.ElementBytes();
  const std::vector<std::byte> b = expected.ElementBytes();
  if (a.size() != b.size()) return "the sizes differ";
  if (a == b) return "";
  const ConstTensorView view = expected.view();
  const size_t first =
      static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin());
  const int element = static_cast<int>(first) / BytesOf(view.dtype());
  const int num_columns = view.dim(view.rank() - 1);
  const int i = element / num_columns;
  const int j = element % num_columns;
  return StrCat("[", i, ", ", j, "] is ", actual.At(i, j), ", expected ", expected.At(i, j));
}

double RelativeErrorOf(const HostTensor& actual, const HostTensor& expected) {
  double error = 0;
  double largest = 0;
  for (int i = 0; i < expected.dim(0); ++i) {
    for (int j = 0; j < expected.dim(1); ++j) {
      const double difference = std::fabs(actual.At(i, j) - expected.At(i, j));
      error = std::isnan(difference) ? INFINITY : std::max(error, difference);
      largest = std::max(largest, std::fabs(expected.At(i, j)));
    }
  }
  return largest > 0 ? error / largest : error;
}

}  // namespace comet
