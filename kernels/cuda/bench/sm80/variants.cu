#include "kernels/cuda/bench/sm80/variants.h"

#include <utility>

#include "kernels/cuda/bench/replay.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/device/ptx_mma_s8.cuh"
#include "kernels/cuda/sm80_gemm_kernel.cuh"

namespace comet::sm80 {
namespace {

template <int kIdx, Conversion kConversion, bool kIsPipelined, bool kHasFragments>
GemmInstance StandIn() {
  return InstanceOf<GemmTraits<kIdx, /*kHasPackedCodes=*/true, Int4Multiply::kStandIn, kConversion,
                               kIsPipelined, kHasFragments>>();
}

template <Conversion kConversion, bool kIsPipelined, bool kHasFragments, int... kIdx>
std::vector<GemmInstance> AllStandIns(std::integer_sequence<int, kIdx...>) {
  return {StandIn<kIdx, kConversion, kIsPipelined, kHasFragments>()...};
}

template <Conversion kConversion, bool kIsPipelined, bool kHasFragments>
Variant MakeVariant(std::string_view name) {
  return {name, AllStandIns<kConversion, kIsPipelined, kHasFragments>(
                    std::make_integer_sequence<int, kGemmConfigs.size()>())};
}

constexpr int kRateThreads = 256;
constexpr int kRateSteps = 2048;
constexpr int kRateChains = 8;

__global__ void __launch_bounds__(kRateThreads) Int8RateKernel(int* out) {
  int acc[kRateChains][4] = {};
  const uint32_t seed = threadIdx.x * 0x9e3779b9u;
  const uint4 a = {seed, seed ^ 0x1234567u, seed * 3u, seed * 5u};
  for (int step = 0; step < kRateSteps; ++step) {
#pragma unroll
    for (int i = 0; i < kRateChains; ++i) {
      ptx::Multiply8<false>(acc[i], a, seed + static_cast<uint32_t>(i), seed, acc[i]);
    }
  }
  int sum = 0;
  for (int i = 0; i < kRateChains; ++i) sum += acc[i][0] + acc[i][1] + acc[i][2] + acc[i][3];
  out[blockIdx.x * kRateThreads + threadIdx.x] = sum;
}

}  // namespace

std::vector<Variant> MakeVariants() {
  return {MakeVariant<Conversion::kInFragment, true, true>("stand_in"),
          MakeVariant<Conversion::kInFragment, false, true>("no_pipeline"),
          MakeVariant<Conversion::kInFragment, true, false>("no_fragments"),
          MakeVariant<Conversion::kPerElement, true, true>("per_element"),
          MakeVariant<Conversion::kOnSums, true, true>("factor_on_sums")};
}

Result<double> MeasureInt8Rate(CudaDevice& device) {
  const int num_ctas = device.num_sms();
  COMET_ASSIGN_OR_RETURN(DeviceBuffer out,
                         device.Allocate(int64_t{num_ctas} * kRateThreads * int64_t{sizeof(int)}));
  COMET_ASSIGN_OR_RETURN(const cuda::Replay replay, cuda::Replay::Capture(device, 4, [&](int) {
                           Int8RateKernel<<<static_cast<unsigned>(num_ctas), kRateThreads, 0,
                                            static_cast<cudaStream_t>(device.stream().handle())>>>(
                               static_cast<int*>(out.data()));
                           return cuda::LaunchStatus("int8_rate");
                         }));
  std::vector<double> us;
  for (int i = 0; i < 7; ++i) {
    COMET_RETURN_IF_ERROR(replay.Start(device));
    COMET_ASSIGN_OR_RETURN(const double launch_us, replay.Finish());
    us.push_back(launch_us);
  }
  const double num_ops =
      2.0 * 16 * 8 * 32 * kRateChains * kRateSteps * (kRateThreads / 32) * num_ctas;
  return num_ops / (cuda::Median(us) * 1e-6);
}

}  // namespace comet::sm80
