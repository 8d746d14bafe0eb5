#pragma once

#include <span>
#include <vector>

#include "engine/quantizer/host_rows.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"
#include "kernels/ops/linear.h"

namespace comet {

// Dense fp32 products of host matrices by a back end's float `linear`: its fixed order of additions
// makes them repeatable on every thread count. Errors: those of the back end. PackFloats()
// (engine/model/pack_floats.h) makes a PackedLinear of a row-major matrix.

// a b^T: a [m, k], b [n, k]; the result is [m, n]. `product` is resized.
Status MultiplyByTransposed(Backend& backend, std::span<const float> a, const PackedLinear& b,
                            HostRows& product);
Result<HostRows> MultiplyByTransposed(Backend& backend, std::span<const float> a,
                                      const PackedLinear& b);
Result<HostRows> MultiplyByTransposed(Backend& backend, std::span<const float> a,
                                      std::span<const float> b, int k);

// sum += a b^T; the product comes first, then one addition each. An empty sum is 0.
Status AddByTransposed(Backend& backend, std::span<const float> a, const PackedLinear& b,
                       HostRows& sum);

}  // namespace comet
