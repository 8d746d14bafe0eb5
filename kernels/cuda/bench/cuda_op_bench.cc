#include "kernels/cuda/bench/cuda_op_bench.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <optional>
#include <utility>

#include "kernels/cuda/bench/product_bench.h"
#include "kernels/cuda/bench/random_fill.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/launch.h"

namespace comet {
namespace {

using cuda::BenchContext;
using cuda::CublasLt;
using cuda::SmClock;

constexpr int kDeviceIdx = 0;

// Bytes read and written by a copy far larger than the cache, a second: what memory-bound kernels
// are held to.
Result<double> MeasureCopyRate(CudaDevice& device) {
  constexpr int64_t kCopyBytes = int64_t{1} << 30;
  constexpr int kNumCopies = 4;
  COMET_ASSIGN_OR_RETURN(const DeviceBuffer source, device.Allocate(kCopyBytes));
  COMET_ASSIGN_OR_RETURN(const DeviceBuffer destination, device.Allocate(kCopyBytes));
  COMET_RETURN_IF_ERROR(
      cuda::FillRandom(device, source.data(), kCopyBytes, cuda::FillKind::kInt8, /*seed=*/109));
  const auto by_runtime = [&](int) {
    return cuda::StatusOf(
        cudaMemcpyAsync(destination.data(), source.data(), kCopyBytes, cudaMemcpyDeviceToDevice,
                        static_cast<cudaStream_t>(device.stream().handle())),
        "cudaMemcpyAsync");
  };
  const auto by_kernel = [&](int) {
    return cuda::CopyByKernel(device, destination.data(), source.data(), kCopyBytes);
  };
  double us_min = std::numeric_limits<double>::infinity();
  for (const std::function<Status(int)>& copy :
       {std::function<Status(int)>(by_runtime), std::function<Status(int)>(by_kernel)}) {
    COMET_ASSIGN_OR_RETURN(const cuda::Replay replay,
                           cuda::Replay::Capture(device, kNumCopies, copy));
    std::vector<double> us;
    for (int i = 0; i < 7; ++i) {
      COMET_RETURN_IF_ERROR(replay.Start(device));
      COMET_ASSIGN_OR_RETURN(const double copy_us, replay.Finish());
      us.push_back(copy_us);
    }
    us_min = std::min(us_min, cuda::Median(us));
  }
  return 2.0 * static_cast<double>(kCopyBytes) / (us_min * 1e-6);
}

// Multiply-adds count as two. Hopper's tensor cores: 4096 INT8 multiply-adds a clock and SM.
double Int8OpsPerClockAndSm(int compute_major) { return compute_major == 9 ? 8192.0 : 0.0; }

class CudaOpBench final : public OpBench {
 public:
  static Result<std::unique_ptr<OpBench>> Create(const OpBenchOptions& options) {
    auto bench = std::unique_ptr<CudaOpBench>(new CudaOpBench(options));
    COMET_ASSIGN_OR_RETURN(bench->device_, CudaDevice::Create(kDeviceIdx));
    CudaDevice& device = *bench->device_;
    COMET_ASSIGN_OR_RETURN(bench->ops_, CudaOps::Create(device));
    COMET_ASSIGN_OR_RETURN(const cuda::DeviceLimits limits, cuda::QueryDeviceLimits());
    BenchDevice& info = bench->info_;
    info.description = device.description();
    info.num_sms = limits.num_sms;
    info.int8_ops_per_clock_and_sm = Int8OpsPerClockAndSm(limits.compute_major);
    Result<SmClock> clock = SmClock::Open(kDeviceIdx);
    if (clock.ok()) {
      bench->clock_ = std::move(clock).value();
      info.clock_source = "nvml";
    }
    if (options.has_baselines) {
      COMET_ASSIGN_OR_RETURN(bench->cublaslt_, CublasLt::Open());
      COMET_ASSIGN_OR_RETURN(bench->workspace_, device.Allocate(CublasLt::kWorkspaceBytes));
      info.cublaslt = bench->cublaslt_->Version();
    }
    COMET_ASSIGN_OR_RETURN(info.copy_bytes_per_second, MeasureCopyRate(device));
    return std::unique_ptr<OpBench>(std::move(bench));
  }

  const BenchDevice& device() const override { return info_; }

  Result<std::vector<OpMeasurement>> MeasureProduct(WeightKind kind, int num_outputs,
                                                    int num_inputs, std::span<const int> num_tokens,
                                                    const Progress& progress) override {
    return cuda::MeasureProduct(context(), kind, num_outputs, num_inputs, num_tokens, progress);
  }

  Result<std::vector<OpMeasurement>> MeasureRowOp(const RowOpCase& c,
                                                  std::span<const int> num_tokens) override {
    return cuda::MeasureRowOp(context(), c, num_tokens);
  }

  Result<OpMeasurement> MeasureAttention(const AttentionCase& c) override {
    return cuda::MeasureAttention(context(), c);
  }

  Result<OpMeasurement> MeasureRopeAppend(const AttentionCase& c) override {
    return cuda::MeasureRopeAppend(context(), c);
  }

 private:
  explicit CudaOpBench(const OpBenchOptions& options) : options_(options) {}

  BenchContext context() {
    return {.device = *device_,
            .ops = *ops_,
            .options = options_,
            .cublaslt = cublaslt_.get(),
            .clock = clock_.has_value() ? &*clock_ : nullptr,
            .workspace = workspace_.data()};
  }

  const OpBenchOptions options_;
  std::unique_ptr<CudaDevice> device_;
  std::unique_ptr<CudaOps> ops_;
  std::unique_ptr<CublasLt> cublaslt_;
  std::optional<SmClock> clock_;
  DeviceBuffer workspace_;
  BenchDevice info_;
};

}  // namespace

Result<std::unique_ptr<OpBench>> MakeCudaOpBench(const OpBenchOptions& options) {
  return CudaOpBench::Create(options);
}

}  // namespace comet
