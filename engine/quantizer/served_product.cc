#include "engine/quantizer/served_product.h"

#include <algorithm>

#include "engine/quantizer/coded_rows.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/linear_to_host.h"
#include "engine/quantizer/parallel_rows.h"

namespace comet {

Status MultiplyCodes(Backend& backend, const ActivationFormat& format, std::span<const float> rows,
                     const PackedLinear& weights, HostRows& product) {
  COMET_ASSIGN_OR_RETURN(const CodedRows coded,
                         CodedRows::Make(backend, format, rows, weights.num_inputs()));
  return LinearToHost(backend, coded.view(), weights, product);
}

Result<ServedProduct> ServedProduct::Make(Backend& backend, const QuantizedLinear& linear,
                                          bool hadamard) {
  ServedProduct made;
  COMET_ASSIGN_OR_RETURN(made.weights_, backend.ops->PackLinear(ViewOf(linear)));
  made.clip_ = linear.precision.clip;
  made.hadamard_ = hadamard;
  made.gather_ = linear.gather;
  return made;
}

Status ServedProduct::Run(Backend& backend, ActivationMode mode, int num_threads,
                          std::span<float> rows, HostRows& product) const {
  const int num_int4 = weights_->num_int4_channels();
  const ActivationFormat format{
      .mode = mode,
      .num_int4_channels = num_int4,
      .exponent_max = ExponentMax(mode, num_int4, weights_->num_inputs() - num_int4),
      .clip = clip_};
  COMET_ASSIGN_OR_RETURN(const CodedRows coded,
                         CodedRows::Make(backend, format, rows, weights_->num_inputs()));
  COMET_RETURN_IF_ERROR(LinearToHost(backend, coded.view(), *weights_, product));
  return coded.Decode(*backend.device, num_threads, rows);
}

void ServedProduct::ToLayer(int num_threads, std::span<float> rows) const {
  if (gather_.empty() && !hadamard_) return;
  const size_t width = static_cast<size_t>(weights_->num_inputs());
  ParallelRows(num_threads, static_cast<int>(rows.size() / width), [&](int first, int last) {
    std::vector<float> plain(width);
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      const std::span<float> row = rows.subspan(t * width, width);
      if (!gather_.empty()) {
        std::ranges::copy(row, plain.begin());
        for (size_t j = 0; j < width; ++j) row[j] = plain[static_cast<size_t>(gather_[j])];
      }
      if (hadamard_) {
        HadamardBlocks(row, weights_->num_inputs(), weights_->num_int4_channels(), 1);
      }
    }
  });
}

}  // namespace comet
