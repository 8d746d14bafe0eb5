#pragma once

#include "kernels/base/status.h"
#include "kernels/cuda/launch.h"
#include "kernels/ops/attention.h"

namespace comet::cuda {

// Bytes of AttentionArgs::scratch with which few long sequences are split over the device's SMs.
int64_t AttentionScratchBytes(int num_sms, int context_length_max, int head_dim);

// Bytes of device memory that Attention() counts in. Zeros before the first call and between calls;
// calls that share them are on one stream.
int64_t AttentionWorkBytes();

// kernels/ops/attention.h by `launcher`. Errors: the contract's; those of CheckKvKernels();
// kUnimplemented: rows that are not f16, more than 8 heads a KV head, rows of q or out that do not
// start at multiples of 8 bytes.
Status Attention(const AttentionArgs& args, void* work, Launcher& launcher);

}  // namespace comet::cuda
