// kernels/cuda/sample.cu
//
// Mapping  One CTA of 1024 threads a row: thread j is lane j of the contract's sums.
// Traffic  The row's logits are read twice and their adjusted form, in scratch where biases,
//          penalties or a temperature change it, once for each sum and each pass of a selection,
//          all but the first time from L2. Latency of these passes bounds a row, about a dozen for
//          a sampled token, two for a greedy one; rows are independent.
// Order    Sorted candidates come in chunks: a histogram over the order's highest bits finds how
//          far down kChunk of them reach, which are then gathered and sorted in shared memory. One
//          thread adds their weights in order, as the contract asks; chunks beyond the choice are
//          never made.
// Limits   2^20 ids.

#include "kernels/cuda/sample.h"

#include <cmath>

#include "kernels/base/str_cat.h"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sample_adjust.cuh"
#include "kernels/cuda/sample_candidates.cuh"

namespace comet::cuda {
namespace sample {
namespace {

// The lowest key that top_k keeps.
__device__ uint64_t CutToTopK(SampleSmem& smem, const float* z, int vocab_size, float max,
                              int top_k) {
  Walk(smem, z, vocab_size, max, [&](int index, uint64_t key, float) {
    smem.key = key;
    return index + 1 == top_k;
  });
  const uint64_t lowest = smem.key;
  __syncthreads();
  return lowest;
}

// A key at or below the lowest that top_p and min_p keep, above the next one, given what top_k
// keeps.
__device__ uint64_t CutTail(SampleSmem& smem, const float* z, int vocab_size, float max,
                            uint64_t lowest, float top_p, float min_p) {
  float target = INFINITY;
  if (top_p < 1.0f) target = top_p * SumOfWeights(smem, z, vocab_size, max, lowest);
  if (threadIdx.x == 0) {
    smem.running = 0.0f;
    smem.key = lowest;
  }
  Walk(smem, z, vocab_size, max, [&](int index, uint64_t key, float weight) {
    if (key < lowest) return true;
    if (index > 0 && (smem.running >= target || weight < min_p)) {
      smem.key = key + 1;
      return true;
    }
    smem.running += weight;
    return false;
  });
  lowest = smem.key;
  __syncthreads();
  return lowest;
}

// Step 3 of the contract; `best` is the key of the largest of z.
__device__ int ChooseToken(SampleSmem& smem, const SampleParams& params, int row, const float* z,
                           uint64_t best) {
  const int vocab_size = params.vocab_size;
  if (params.temperature[row] < kGreedyBelow) return IdOf(best);

  const float max = ValueOf(best);
  uint64_t lowest = 0;  // Keys at or above it are kept.
  const int top_k = params.top_k[row];
  if (top_k > 0 && top_k < vocab_size) lowest = CutToTopK(smem, z, vocab_size, max, top_k);
  const float top_p = params.top_p[row];
  const float min_p = params.min_p[row];
  if (top_p < 1.0f || min_p > 0.0f) {
    lowest = CutTail(smem, z, vocab_size, max, lowest, top_p, min_p);
  }

  const float target = params.uniform[row] * SumOfWeights(smem, z, vocab_size, max, lowest);
  if (threadIdx.x == 0) smem.running = 0.0f;
  Walk(smem, z, vocab_size, max, [&](int, uint64_t key, float weight) {
    if (key < lowest) return true;
    smem.key = key;
    smem.running += weight;
    return smem.running > target;
  });
  const int chosen = IdOf(smem.key);
  __syncthreads();
  return chosen;
}

__device__ void WriteTop(SampleSmem& smem, const SampleParams& params, int row, const float* raw,
                         float max, float log_sum) {
  int32_t* ids = params.top_ids + row * params.top_ids_stride;
  float* logprobs = params.top_logprobs + row * params.top_logprobs_stride;
  uint64_t bound = kAboveAll;
  for (int num_written = 0; num_written < params.num_top;) {
    const int num_in_chunk = NextChunk(smem, raw, params.vocab_size, bound);
    const int num_wanted = min(num_in_chunk, params.num_top - num_written);
    for (int i = threadIdx.x; i < num_wanted; i += kThreads) {
      const int id = IdOf(smem.chunk[i]);
      ids[num_written + i] = id;
      logprobs[num_written + i] = (raw[id] - max) - log_sum;
    }
    bound = smem.chunk[num_in_chunk - 1];
    num_written += num_wanted;
    __syncthreads();
  }
}

__device__ void WriteFailure(const SampleParams& params, int row, int num_nonfinite) {
  const int i = static_cast<int>(threadIdx.x);
  if (i == 0) {
    params.token[row] = -1;
    params.logprob[row] = 0.0f;
    params.nonfinite_count[row] = num_nonfinite;
  }
  if (i < params.num_top) {
    params.top_ids[row * params.top_ids_stride + i] = -1;
    params.top_logprobs[row * params.top_logprobs_stride + i] = 0.0f;
  }
}

__global__ void __launch_bounds__(kThreads)
    SampleKernel(const __grid_constant__ SampleParams params) {
  __shared__ SampleSmem smem;
  const int row = static_cast<int>(blockIdx.x);
  const float* raw = params.logits + row * params.logits_stride;

  ReleaseNextGrids();
  WaitForPreviousGrids();
  const RowScan raw_scan = ScanRow(smem, raw, params.vocab_size);
  if (raw_scan.num_nonfinite > 0) {
    WriteFailure(params, row, raw_scan.num_nonfinite);
    return;
  }
  const float* z = raw;
  RowScan scan = raw_scan;
  if (!IsUnadjusted(params, row)) {
    float* adjusted = params.scratch + int64_t{row} * params.vocab_size;
    AdjustLogits(params, row, adjusted);
    z = adjusted;
    scan = ScanRow(smem, z, params.vocab_size);
  }
  if (scan.num_nonfinite > 0) {
    WriteFailure(params, row, scan.num_nonfinite);
    return;
  }

  const float max = ValueOf(raw_scan.best);
  const float log_sum = logf(SumOfWeights(smem, raw, params.vocab_size, max, 0));
  const int token = ChooseToken(smem, params, row, z, scan.best);
  if (threadIdx.x == 0) {
    params.token[row] = token;
    params.logprob[row] = (raw[token] - max) - log_sum;
    params.nonfinite_count[row] = 0;
  }
  if (params.num_top > 0) WriteTop(smem, params, row, raw, max, log_sum);
}

}  // namespace
}  // namespace sample

Status Sample(const SampleArgs& args, Launcher& launcher) {
  COMET_RETURN_IF_ERROR(Validate(args));
  const int num_rows = args.logits.dim(0);
  const int vocab_size = args.logits.dim(1);
  if (num_rows == 0) return Status::Ok();
  if (vocab_size > sample::kIdsMax) {
    return Unimplemented(StrCat("sample: vocab_size is ", vocab_size, ", expected at most ",
                                sample::kIdsMax, " on a cuda device"));
  }
  if (!args.scratch.is_present()) {
    return InvalidArgument("sample: scratch is absent, expected [num_rows, vocab_size] f32");
  }
  const bool has_top = args.top_ids.is_present();
  const SampleParams params{.token = args.token.as<int32_t>(),
                            .logprob = args.logprob.as<float>(),
                            .nonfinite_count = args.nonfinite_count.as<int32_t>(),
                            .top_ids = has_top ? args.top_ids.as<int32_t>() : nullptr,
                            .top_logprobs = has_top ? args.top_logprobs.as<float>() : nullptr,
                            .top_ids_stride = has_top ? args.top_ids.stride(0) : 0,
                            .top_logprobs_stride = has_top ? args.top_logprobs.stride(0) : 0,
                            .num_top = has_top ? args.top_ids.dim(1) : 0,
                            .logits = args.logits.as<float>(),
                            .logits_stride = args.logits.stride(0),
                            .vocab_size = vocab_size,
                            .scratch = args.scratch.as<float>(),
                            .temperature = args.temperature.as<float>(),
                            .top_k = args.top_k.as<int32_t>(),
                            .top_p = args.top_p.as<float>(),
                            .min_p = args.min_p.as<float>(),
                            .repetition_penalty = args.repetition_penalty.as<float>(),
                            .presence_penalty = args.presence_penalty.as<float>(),
                            .frequency_penalty = args.frequency_penalty.as<float>(),
                            .uniform = args.uniform.as<float>(),
                            .history_start = args.history_start.as<int32_t>(),
                            .history_ids = args.history_ids.as<int32_t>(),
                            .history_counts = args.history_counts.as<int32_t>(),
                            .bias_start = args.bias_start.as<int32_t>(),
                            .bias_ids = args.bias_ids.as<int32_t>(),
                            .bias_values = args.bias_values.as<float>()};
  return launcher.Launch(
      "sample", {.grid = dim3(static_cast<unsigned>(num_rows)), .num_threads = sample::kThreads},
      sample::SampleKernel, params);
}

}  // namespace comet::cuda
