#include "engine/quantizer/float_product.h"

#include "engine/model/device_tensor.h"
#include "engine/model/pack_floats.h"
#include "engine/quantizer/linear_to_host.h"

namespace comet {
namespace {

// Rows of a host matrix as the op reads them: where they are, or `uploaded`.
Result<LinearInput> InputOf(Backend& backend, std::span<const float> a, int k,
                            DeviceTensor& uploaded) {
  const TensorShape shape{static_cast<int>(a.size() / static_cast<size_t>(k)), k};
  if (backend.device->is_host()) {
    return LinearInput{.values = {const_cast<float*>(a.data()), DType::kF32, shape}};
  }
  COMET_ASSIGN_OR_RETURN(uploaded,
                         DeviceTensor::Upload(*backend.device, {a.data(), DType::kF32, shape}));
  return LinearInput{.values = uploaded.view()};
}

}  // namespace

Status MultiplyByTransposed(Backend& backend, std::span<const float> a, const PackedLinear& b,
                            HostRows& product) {
  DeviceTensor uploaded;
  COMET_ASSIGN_OR_RETURN(const LinearInput input, InputOf(backend, a, b.num_inputs(), uploaded));
  return LinearToHost(backend, input, b, product);
}

Result<HostRows> MultiplyByTransposed(Backend& backend, std::span<const float> a,
                                      const PackedLinear& b) {
  HostRows product;
  COMET_RETURN_IF_ERROR(MultiplyByTransposed(backend, a, b, product));
  return product;
}

Result<HostRows> MultiplyByTransposed(Backend& backend, std::span<const float> a,
                                      std::span<const float> b, int k) {
  COMET_ASSIGN_OR_RETURN(
      const std::unique_ptr<PackedLinear> packed,
      PackFloats(*backend.ops, b, static_cast<int>(b.size() / static_cast<size_t>(k)), k));
  return MultiplyByTransposed(backend, a, *packed);
}

Status AddByTransposed(Backend& backend, std::span<const float> a, const PackedLinear& b,
                       HostRows& sum) {
  DeviceTensor uploaded;
  COMET_ASSIGN_OR_RETURN(const LinearInput input, InputOf(backend, a, b.num_inputs(), uploaded));
  return AddLinearToHost(backend, input, b, sum);
}

}  // namespace comet
